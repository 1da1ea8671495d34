"""Version 1 of the contract under one name: messages, enums, their values, stubs and servicers.

    from taskloom import v1

    request = v1.CreateTaskRequest(title="Write the parser", priority=7)

Nothing is defined here. A new .proto file wants a line below; a test of the client says so.
"""

# ruff: noqa: F403 - re-exporting everything is the purpose, and the lists would be 300 lines long.

from taskloom.v1.admin_service_pb2 import *
from taskloom.v1.admin_service_pb2_grpc import *
from taskloom.v1.attachment_pb2 import *
from taskloom.v1.attachment_service_pb2 import *
from taskloom.v1.attachment_service_pb2_grpc import *
from taskloom.v1.claim_service_pb2 import *
from taskloom.v1.claim_service_pb2_grpc import *
from taskloom.v1.event_pb2 import *
from taskloom.v1.file_mark_pb2 import *
from taskloom.v1.file_service_pb2 import *
from taskloom.v1.file_service_pb2_grpc import *
from taskloom.v1.prompt_pb2 import *
from taskloom.v1.task_pb2 import *
from taskloom.v1.task_service_pb2 import *
from taskloom.v1.task_service_pb2_grpc import *
from taskloom.v1.watch_service_pb2 import *
from taskloom.v1.watch_service_pb2_grpc import *
from taskloom.v1.worker_pb2 import *
from taskloom.v1.worker_service_pb2 import *
from taskloom.v1.worker_service_pb2_grpc import *
from taskloom.v1.workflow_pb2 import *
