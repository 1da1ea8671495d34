"""A graph into a server, out of it, and away: what the runner asks of the admin service."""

from collections.abc import AsyncIterator
from pathlib import Path

from taskloom import v1
from taskloom_client import Client

from taskloom_experiments.whole_files import written_whole

_CHUNK = 256 * 1024


async def import_template(
    client: Client, template: bytes, workflow: str
) -> v1.ImportSnapshotResponse:
    """Import a template, gzipped or not, as work to be done. Raises TaskloomError."""

    async def messages() -> AsyncIterator[v1.ImportSnapshotRequest]:
        yield v1.ImportSnapshotRequest(
            options=v1.ImportOptions(mode=v1.IMPORT_MODE_TEMPLATE, workflow=workflow)
        )
        for start in range(0, len(template), _CHUNK):
            yield v1.ImportSnapshotRequest(chunk=template[start : start + _CHUNK])

    return await client.admin.ImportSnapshot(messages())


async def export_snapshot(client: Client, target: Path) -> None:
    """Export the graph to a file, which is written whole or not at all. Raises TaskloomError."""
    with written_whole(target) as unfinished, unfinished.open("wb") as file:
        async for message in client.admin.ExportSnapshot(v1.ExportSnapshotRequest()):
            file.write(message.chunk)


async def reset(client: Client) -> None:
    """Delete everything for good. Raises TaskloomError."""
    await client.admin.Reset(v1.ResetRequest(confirm="reset"))
