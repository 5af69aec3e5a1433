"""Training: one loop that resumes where it was stopped."""

from .folder import Busy as Busy
from .interrupts import OutOfTime as OutOfTime
from .job import Job as Job
from .loop import Diverged as Diverged
from .session import fit as fit
