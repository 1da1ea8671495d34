"""The promises, a module for each kind; ``ALL`` of them judge every history."""

from tests.robustness.history import Promise
from tests.robustness.promises.acknowledged import Acknowledged
from tests.robustness.promises.claims import Admission, BestFirst, Exclusive
from tests.robustness.promises.contents import Contents
from tests.robustness.promises.database import Database
from tests.robustness.promises.fencing import Fencing
from tests.robustness.promises.guards import Gates, Roles
from tests.robustness.promises.ids import Ids
from tests.robustness.promises.leases import Leases
from tests.robustness.promises.limits import Budgets, WipLimits
from tests.robustness.promises.locks import Locks
from tests.robustness.promises.marks import Marks
from tests.robustness.promises.reads import Reads
from tests.robustness.promises.streams import Streams
from tests.robustness.promises.transitions import Attempts, Explained, Readiness, Transitions
from tests.robustness.promises.waiting import Waiting
from tests.robustness.promises.watches import Watches

ALL: tuple[type[Promise], ...] = (
    Exclusive,
    Admission,
    BestFirst,
    Waiting,
    Transitions,
    Attempts,
    Readiness,
    WipLimits,
    Budgets,
    Gates,
    Roles,
    Marks,
    Locks,
    Ids,
    Explained,
    Leases,
    Streams,
    Fencing,
    Acknowledged,
    Reads,
    Watches,
    Contents,
    Database,
)
