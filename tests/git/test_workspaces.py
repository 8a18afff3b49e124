"""Workspaces: isolated checkouts, and snapshots that lose nothing and run nothing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from conftest import sh
from spawnd.errors import MergeConflict, SourceError
from spawnd.git import patch, salvage
from spawnd.git.apply import apply
from spawnd.git.merge import Part, merged
from spawnd.git.mirrors import Mirrors
from spawnd.git.names import branch_for, work_ref
from spawnd.git.workspace import Workspace, checkout

REF = work_ref("run", "agent", 1)


@pytest.fixture
async def workspace(source: Any, tmp_path: Path) -> Workspace:
    revision = await Mirrors(tmp_path / "mirrors").resolve(str(source.path))
    return await checkout(revision.mirror, revision.sha, tmp_path / "ws" / "1", branch=branch_for("run", "agent"))


async def kept(workspace: Workspace, tmp_path: Path, **more: Any) -> Path:
    """Snapshot, publish, release, restore: what comes back."""
    taken = await workspace.snapshot("work", author="agent", trailers={"Spawnd-Run": "run"}, **more)
    await workspace.publish(taken, REF)
    await workspace.release()
    await salvage.restore(workspace.mirror, REF, tmp_path / "back")
    return tmp_path / "back"


def tree(path: Path) -> dict[str, tuple[str, bytes]]:
    """Every file below ``path`` but .git: its kind and content."""
    found = {}
    for folder, names, files in os.walk(path):
        names[:] = [name for name in names if name != ".git"]
        for name in files:
            file = Path(folder, name)
            if file.is_symlink():
                found[str(file.relative_to(path))] = ("link", os.fsencode(file.readlink()))
            else:
                kind = "x" if file.stat().st_mode & 0o100 else "-"
                found[str(file.relative_to(path))] = (kind, file.read_bytes())
    return found


async def test_every_kind_of_leftover_comes_back_byte_for_byte(workspace: Workspace, tmp_path: Path) -> None:
    ws = workspace.path
    (ws / "README.md").write_text("one\n2\nthree\n")  # dirty
    (ws / "src/app.py").unlink()  # deleted
    (ws / "bin/run").chmod(0o755)  # mode
    (ws / "blob.bin").write_bytes(bytes(range(256)) * 10)  # binary, untracked
    (ws / "with space \u00e9\nline").write_text("x")  # names
    (ws / "link").symlink_to("/etc/passwd")  # symlink, not followed
    (ws / "staged").write_text("s")
    sh("git", "add", "staged", cwd=ws)
    expected = tree(ws)

    back = await kept(workspace, tmp_path)

    assert tree(back) == expected


async def test_the_agents_own_commits_are_kept_below_what_it_left_uncommitted(
    workspace: Workspace, tmp_path: Path
) -> None:
    ws = workspace.path
    (ws / "a").write_text("a")
    sh("git", "add", "-A", cwd=ws)
    sh("git", "commit", "-qm", "mine", cwd=ws)
    (ws / "b").write_text("b")

    taken = await workspace.snapshot("rest", author="agent", trailers={"Spawnd-Run": "run-1"})

    assert taken.commits == 1
    await workspace.publish(taken, REF)
    log = sh("git", "log", "--format=%an|%s|%(trailers:key=Spawnd-Run,valueonly)", REF, cwd=workspace.mirror)
    assert log.splitlines()[0] == "agent|rest|run-1"
    assert "u|mine|" in log


@pytest.mark.parametrize(
    "mess",
    [
        "git checkout -q --detach && echo d > d && git add d && git commit -qm d",
        "git checkout -q -b other && echo d > d && git add d && git commit -qm d",
        "echo x > README.md && git commit -qam x && git checkout -q -b up HEAD~1 && echo y > README.md &&"
        " git commit -qam y && (git rebase spawnd/run/agent || true)",
        "echo m > m && touch .git/index.lock",
        "echo m > m && printf garbage > .git/index",
        "echo m > m && rm -rf .git",
        "echo m > m && rm -rf .git && echo 'gitdir: /nowhere' > .git",
        "echo m > m && git add m && git commit -qm m && find .git/objects -type f -exec sh -c 'printf x > {}' ';'",
        "git checkout -q --orphan fresh && git add -A && git commit -qm orphan",
        "mkdir sub && cd sub && git init -q && echo n > n && git add n"
        " && git -c user.name=n -c user.email=n@n commit -qm n",
        "git gc -q --prune=now && git repack -adq && echo g > g && git add g && git commit -qm g && git gc -q",
    ],
)
async def test_a_mess_in_its_git_loses_no_file(workspace: Workspace, tmp_path: Path, mess: str) -> None:
    sh("sh", "-c", f"chmod -R u+w .git; {mess}", cwd=workspace.path)
    expected = {name: value for name, value in tree(workspace.path).items() if name != ".git"}

    back = await kept(workspace, tmp_path)

    assert tree(back) == expected


async def test_ignored_files_stay_out_unless_they_are_outputs(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.path / ".gitignore").write_text("*.log\n")
    (workspace.path / "a.log").write_text("a")
    (workspace.path / "b.log").write_text("b")

    back = await kept(workspace, tmp_path, include=["b.log"])

    assert not (back / "a.log").exists()
    assert (back / "b.log").read_text() == "b"


async def test_a_hostile_workspace_runs_nothing_and_leaks_nothing(workspace: Workspace, tmp_path: Path) -> None:
    ws, proof = workspace.path, tmp_path / "proof"
    private = tmp_path / "private"
    private.mkdir()
    sh("git", "init", "-q", cwd=private)
    (private / "secret").write_text("top secret")
    sh("git", "add", "-A", cwd=private)
    sh("git", "commit", "-qm", "s", cwd=private)
    stolen = sh("git", "rev-parse", "HEAD", cwd=private).strip()
    script = ws / ".git" / "evil"
    script.write_text(f"#!/bin/sh\ntouch '{proof}'\ncat\n")
    script.chmod(0o755)
    for name in ("post-checkout", "pre-commit", "reference-transaction", "post-index-change", "fsmonitor-watchman"):
        hook = ws / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.symlink_to(script)
    (ws / ".git" / "config").write_text(
        f"[core]\n\tfsmonitor = {script}\n\thooksPath = {ws}/.git/hooks\n\tsshCommand = {script}\n\tworktree = /etc\n"
        f'[filter "evil"]\n\tclean = {script}\n\tsmudge = {script}\n\trequired = true\n'
        f'[diff "evil"]\n\ttextconv = {script}\n\tcommand = {script}\n[merge "evil"]\n\tdriver = {script}\n'
        f"[alias]\n\tadd = !{script}\n[include]\n\tpath = {ws}/.git/more\n"
    )
    (ws / ".gitattributes").write_text("* filter=evil diff=evil merge=evil\n")
    (ws / ".git" / "objects" / "info" / "alternates").write_text(f"{private}/.git/objects\n")
    (ws / ".git" / "HEAD").write_text(f"{stolen}\n")
    (ws / "new").write_text("new")

    taken = await workspace.snapshot("work", author="agent", trailers={})
    await workspace.publish(taken, REF)

    assert not proof.exists()
    assert taken.commits == 0
    out = await patch.diff(workspace.mirror, taken.base_sha, taken.sha)
    assert b"top secret" not in out
    assert b"+new" in out


async def test_a_workspace_cannot_write_to_the_mirror(workspace: Workspace) -> None:
    before = sorted(path.name for path in (workspace.mirror / "objects").rglob("*") if path.is_file())
    (workspace.path / "x").write_text("x")
    sh("git", "add", "-A", cwd=workspace.path)
    sh("git", "commit", "-qm", "x", cwd=workspace.path)
    sh("git", "gc", "-q", "--prune=now", cwd=workspace.path)

    assert sorted(path.name for path in (workspace.mirror / "objects").rglob("*") if path.is_file()) == before
    assert sh("git", "status", "--porcelain", cwd=workspace.path) == ""


async def test_defect_17_a_patch_exists_without_a_base_ref_and_applies_to_a_fresh_clone(
    workspace: Workspace, source: Any, tmp_path: Path
) -> None:
    ws = workspace.path
    (ws / "README.md").write_text("one\n2\nthree\n")
    (ws / "new.bin").write_bytes(b"\0" + os.urandom(500))
    (ws / "bin/run").chmod(0o755)
    (ws / "src/app.py").unlink()
    (ws / "link").symlink_to("README.md")
    taken = await workspace.snapshot("work", author="agent", trailers={})
    await workspace.publish(taken, REF)
    sh("git", "clone", "-q", str(source.path), "clone", cwd=tmp_path)

    data = await patch.diff(workspace.mirror, taken.base_sha, taken.sha)
    applied = await apply(tmp_path / "clone", data)

    assert len(applied.files) == 5
    assert tree(tmp_path / "clone") == tree(ws)
    assert (taken.files_changed, taken.insertions, taken.deletions) == (5, 2, 2)


async def test_two_agents_on_different_lines_merge_and_on_the_same_line_conflict(source: Any, tmp_path: Path) -> None:
    mirrors = Mirrors(tmp_path / "mirrors")
    revision = await mirrors.resolve(str(source.path))

    async def work(name: str, content: str) -> Part:
        ws = await checkout(revision.mirror, revision.sha, tmp_path / name, branch=branch_for("run", name))
        (ws.path / "README.md").write_text(content)
        taken = await ws.snapshot(name, author=name, trailers={})
        await ws.publish(taken, work_ref("run", name, 1))
        return Part(name, taken.base_sha, taken.sha)

    first = await work("first", "ONE\ntwo\nthree\n")
    last = await work("last", "one\ntwo\nTHREE\n")
    clash = await work("clash", "1\ntwo\nthree\n")

    for mode in ("full", "diff_only", "paths"):
        both = await merged(revision.mirror, revision.sha, [first, last], mode=mode)
        assert await patch.read_file(revision.mirror, both, "README.md") == b"ONE\ntwo\nTHREE\n"
        with pytest.raises(MergeConflict) as caught:
            await merged(revision.mirror, revision.sha, [first, clash], mode=mode)
        assert caught.value.files == ("README.md",)
        assert "first" in caught.value.message
        assert "clash" in caught.value.message


async def test_paths_mode_takes_only_what_is_asked_for(source: Any, tmp_path: Path) -> None:
    revision = await Mirrors(tmp_path / "mirrors").resolve(str(source.path))
    ws = await checkout(revision.mirror, revision.sha, tmp_path / "ws", branch="b")
    (ws.path / "docs").mkdir()
    (ws.path / "docs/a.md").write_text("a")
    (ws.path / "docs/b.txt").write_text("b")
    (ws.path / "src/app.py").unlink()
    taken = await ws.snapshot("w", author="w", trailers={})
    await ws.publish(taken, REF)
    part = Part("w", taken.base_sha, taken.sha)

    head = await merged(revision.mirror, revision.sha, [part], mode="paths", include=["docs"], exclude=["*.txt"])

    changes = await patch.stat(revision.mirror, revision.sha, head)
    assert [(file.path, file.status) for file in changes.files] == [("docs/a.md", "A")]


async def test_defect_10_a_result_travels_to_another_machines_mirror(
    workspace: Workspace, source: Any, tmp_path: Path
) -> None:
    (workspace.path / "x").write_text("x")
    taken = await workspace.snapshot("w", author="w", trailers={})
    await workspace.publish(taken, REF)
    data = await patch.bundle(workspace.mirror, taken.base_sha, taken.sha)
    other = Mirrors(tmp_path / "other machine")
    revision = await other.resolve(str(source.path))
    assert not await other.has(revision.mirror, taken.sha)

    assert await patch.unbundle(revision.mirror, data, REF) == taken.sha

    assert await patch.read_file(revision.mirror, taken.sha, "x") == b"x"


async def test_resolving_never_writes_to_the_users_repository(source: Any, tmp_path: Path) -> None:
    before = sorted(str(path) for path in source.path.rglob("*"))

    await Mirrors(tmp_path / "mirrors").resolve(str(source.path / "src"), "main")

    assert sorted(str(path) for path in source.path.rglob("*")) == before


async def test_many_resolve_one_source_at_once_and_see_the_newest_commit(source: Any, tmp_path: Path) -> None:
    mirrors = Mirrors(tmp_path / "mirrors")
    await mirrors.resolve(str(source.path))
    newest = source.commit({"new": "n"})

    found = await asyncio.gather(*(Mirrors(tmp_path / "mirrors").resolve(str(source.path)) for _ in range(6)))

    assert {revision.sha for revision in found} == {newest}


@pytest.mark.parametrize(
    ("ref", "words"),
    [("mian", "main"), ("nothing-like-it", "git branch"), ("-x", "cannot be a revision"), ("a b", "cannot be")],
)
async def test_an_unknown_revision_is_named_with_the_nearest(source: Any, tmp_path: Path, ref: str, words: str) -> None:
    with pytest.raises(SourceError) as caught:
        await Mirrors(tmp_path / "mirrors").resolve(str(source.path), ref)

    assert words in f"{caught.value.message} {caught.value.hint}"


async def test_what_is_no_repository_is_said_plainly(tmp_path: Path) -> None:
    mirrors = Mirrors(tmp_path / "mirrors")
    (tmp_path / "plain").mkdir()
    (tmp_path / "empty").mkdir()
    sh("git", "init", "-q", cwd=tmp_path / "empty")

    for path, words in (("plain", "not a git repository"), ("empty", "no commit yet"), ("gone", "There is no")):
        with pytest.raises(SourceError, match=words):
            await mirrors.resolve(str(tmp_path / path))


async def test_remotes_resolve_branches_tags_and_commits_and_keep_no_credentials(source: Any, tmp_path: Path) -> None:
    source.git("tag", "v1")
    source.git("checkout", "-q", "-b", "feature/x")
    feature = source.commit({"f": "f"})
    source.git("checkout", "-q", "main")
    mirrors = Mirrors(tmp_path / "mirrors")
    url = f"file://{source.path}"

    assert (await mirrors.resolve(url, "feature/x")).sha == feature
    assert (await mirrors.resolve(url, "origin/feature/x")).sha == feature
    assert (await mirrors.resolve(url, "v1")).sha == source.git("rev-parse", "v1").strip()
    assert (await mirrors.resolve(url, feature)).sha == feature
    newest = source.commit({"g": "g"})
    assert (await mirrors.resolve(url)).sha != newest
    assert (await mirrors.resolve(url, fetch=True)).sha == newest
    with pytest.raises(SourceError) as caught:
        await mirrors.resolve("https://user:hunter22@127.0.0.1:9/x.git")
    assert "hunter22" not in f"{caught.value.message}{caught.value.hint}"


async def test_apply_refuses_a_dirty_tree_and_a_conflict_changes_nothing(
    workspace: Workspace, source: Any, tmp_path: Path
) -> None:
    from spawnd.errors import Refused

    (workspace.path / "README.md").write_text("ONE\ntwo\nthree\n")
    taken = await workspace.snapshot("w", author="w", trailers={})
    await workspace.publish(taken, REF)
    data = await patch.diff(workspace.mirror, taken.base_sha, taken.sha)
    (source.path / "README.md").write_text("mine\n")
    with pytest.raises(Refused, match=r"README\.md"):
        await apply(source.path, data)
    source.git("commit", "-qam", "mine")
    before = tree(source.path)

    with pytest.raises(MergeConflict) as caught:
        await apply(source.path, data)

    assert caught.value.files == ("README.md",)
    assert tree(source.path) == before
    assert source.git("status", "--porcelain") == ""
