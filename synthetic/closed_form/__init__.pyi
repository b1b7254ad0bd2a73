from .folder import write_closed_form as write_closed_form
from .worlds import WORLDS as WORLDS
from .worlds import ClosedForm as ClosedForm
from .worlds import World as World
from .worlds import find_world as find_world
from .worlds import make_closed_form as make_closed_form
