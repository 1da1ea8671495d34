from taskloom import v1


async def test_life(client, server):
    w = await client.workers.Connect(v1.ConnectRequest(tags=["a", "b"]))
    wid = w.worker.id
    root = (await client.tasks.CreateTask(v1.CreateTaskRequest(title="Root of it"))).task
    print(root)
    tree = await client.tasks.CreateTaskTree(v1.CreateTaskTreeRequest(parent_id=root.id, root=v1.TaskNode(id="t", title="T", children=[v1.TaskNode(id="c1", title="C1", needed_tags=["a"]), v1.TaskNode(id="c2", title="C2", blocked_by=["c1"])])))
    assert [t.id for t in tree.tasks] == ["t", "c1", "c2"]
    c = await client.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id=wid))
    print(c)
    assert c.tasks[0].id == "c1"
    await client.files.MarkFiles(v1.MarkFilesRequest(worker_id=wid, paths=["a.py"], task_id="c1", claim_revision=c.tasks[0].claim_revision))
    await client.attachments.Attach(v1.AttachRequest(worker_id=wid, task_id="c1", type="note", content=b"x"))
    await client.tasks.LogMetrics(v1.LogMetricsRequest(worker_id=wid, task_id="c1", metrics=v1.Metrics(tokens_in=5, cost_usd=.5)))
    d = await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id=wid, task_id="c1", claim_revision=c.tasks[0].claim_revision))
    print(d)
    assert d.unblocked_task_ids == ["c2"]
    c = await client.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id=wid))
    d = await client.claims.CompleteTask(v1.CompleteTaskRequest(worker_id=wid, task_id="c2"))
    s = await client.admin.GetStatus(v1.GetStatusRequest())
    print(s)
    assert s.tasks_by_status["completed"] == 4
    c = await client.claims.ClaimNextTask(v1.ClaimNextTaskRequest(worker_id=wid))
    assert c.outcome == v1.CLAIM_OUTCOME_ALL_DONE
    l = await client.tasks.ListTasks(v1.ListTasksRequest(parent_id=root.id, recursive=True, page_size=2))
    print(l.next_page_token, [t.id for t in l.tasks])
    l2 = await client.tasks.ListTasks(v1.ListTasksRequest(parent_id=root.id, recursive=True, page_size=2, page_token=l.next_page_token))
    print([t.id for t in l2.tasks])
    async for m in client.watch(start_revision=1):
        print(m)
        if m.revision == s.revision:
            break
    h = await client.tasks.ListTransitions(v1.ListTransitionsRequest(task_id="c1"))
    print(h)
    chunks = b""
    async for e in client.admin.ExportSnapshot(v1.ExportSnapshotRequest()):
        chunks += e.chunk
    print(chunks.decode()[:3000])
