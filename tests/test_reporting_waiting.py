from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from crm_analysis.reporting.pool import Job
from crm_analysis.reporting.runs import Run
from crm_analysis.reporting.waiting import WaitingJobs


def job(name: str, lang: str) -> Job:
    run = Run(name, f"notebooks/{name}.ipynb", f"network/{name}.{lang}.html", lang=lang)
    return Job(run, {}, Path(run.path))


def waiting(*names: str) -> WaitingJobs:
    jobs = WaitingJobs()
    for name in names:
        for lang in ("en", "ru"):
            jobs.put(job(name, lang))
    return jobs


def taken(jobs: WaitingJobs, worker: str) -> str:
    found = jobs.take(worker)
    assert found is not None
    return f"{found.run.name} {found.run.lang}"


def test_one_worker_takes_all_in_their_order() -> None:
    jobs = waiting("a", "b")
    assert [taken(jobs, "one") for _ in range(4)] == ["a en", "a ru", "b en", "b ru"]


def test_both_languages_of_a_report_go_to_one_worker() -> None:
    jobs = waiting("a", "b", "c")
    assert taken(jobs, "one") == "a en"
    assert taken(jobs, "two") == "b en"
    assert taken(jobs, "two") == "b ru"
    assert taken(jobs, "two") == "c en"
    assert taken(jobs, "one") == "a ru"


def test_no_worker_idles_for_that() -> None:
    jobs = waiting("a")
    assert taken(jobs, "one") == "a en"
    assert taken(jobs, "two") == "a ru"


def every(jobs: WaitingJobs) -> Iterator[Job]:
    while (job := jobs.take("one")) is not None:
        yield job


def test_a_worker_waits_for_a_job_and_goes_home_when_there_will_be_none() -> None:
    jobs = WaitingJobs()
    got: list[Job] = []
    thread = threading.Thread(target=lambda: got.extend(every(jobs)))
    thread.start()
    jobs.put(job("a", "en"))
    while not got:
        thread.join(timeout=0.01)
    jobs.close()
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert len(got) == 1
