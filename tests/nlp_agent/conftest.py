from tests.s3_server import server as server
from tests.s3_server import shared_server as shared_server
