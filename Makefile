# Thin aliases: run.py does the work, and is the same line on every platform.
# Arguments: make test ARGS="-k funnel"
PYTHON ?= python3
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help report real test lab check data lock clean

help:
	@$(PYTHON) run.py

report real test lab check data lock clean:
	@$(PYTHON) run.py $@ $(ARGS)
