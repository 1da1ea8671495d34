"""Subtrees: a recursive query that others are built on."""

from taskloom_server.store.tables import Tasks


def subtree(root: object, *, also_deleted: bool = False) -> object:
    """A recursive query for the ids below ``root``."""
    top = Tasks.select(Tasks.id).where(Tasks.parent_id == root)
    if not also_deleted:
        top = top.where(Tasks.deleted_at.is_null())
    below = top.cte("below", recursive=True, columns=("id",))
    child = Tasks.alias()
    step = child.select(child.id).join(below, on=(child.parent_id == below.c.id))
    if not also_deleted:
        step = step.where(child.deleted_at.is_null())
    return below.union_all(step)
