"""How workers find each other, agree, and hear that one has stopped; without any training."""

import json
import socket
import subprocess
import sys
import threading
import time

import pytest

from zoo.errors import DataError, SettingError, TrainError
from zoo.train import Cluster
from zoo.train.cluster import free_port
from zoo.train.cluster_environment import cluster_from_environment


def together(*tasks):
    """Run functions at once; return what each returned, or the error that it raised."""
    found = [None] * len(tasks)

    def run(place, task):
        try:
            found[place] = task()
        except Exception as error:
            found[place] = error

    threads = [threading.Thread(target=run, args=each) for each in enumerate(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return found


def workers(count, task, *, wait=10.0):
    """Let `count` workers join and each run `task(cluster)`; return what came of each."""
    chief = f"127.0.0.1:{free_port()}"

    def work(number):
        cluster = Cluster(chief, count, number, wait=wait)
        cluster.join()
        answer = task(cluster)
        cluster.leave()
        return answer

    return together(*(lambda number=number: work(number) for number in range(count)))


def test_all_hear_what_each_says_and_what_the_chief_sends():
    def task(cluster):
        said = cluster.exchange({"number": cluster.worker})
        sent = cluster.from_chief(b"\x00" * 10**6 if cluster.chief else None)
        again = cluster.exchange(cluster.worker**2)
        return said, len(sent), again, len(set(cluster.addresses))

    expected = [{"number": 0}, {"number": 1}, {"number": 2}], 10**6, [0, 1, 4], 3
    assert workers(3, task) == [expected] * 3


def test_workers_that_are_done_early_wait_for_the_chief_and_end_well():
    ended = []

    def task(cluster):
        time.sleep(0.3 if cluster.chief else 0)
        ended.append(cluster.worker)

    assert workers(3, task) == [None] * 3 and ended[-1] == 0


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("settings", SettingError, "worker 1 and the chief do not agree on settings: units=5, the chief 4"),
        ("data", DataError, "worker 1 and the chief do not agree on data: 'x', the chief 'y'"),
        ("versions", DataError, "worker 1 and the chief do not agree on versions: keras=None, the chief '3'"),
    ],
)
def test_what_workers_disagree_on_is_said_by_all_of_them(name, kind, says):
    given = {
        "settings": ({"units": 4, "seed": 0}, {"units": 5, "seed": 0}),
        "data": ("y", "x"),
        "versions": ({"keras": "3"}, {}),
    }[name]
    found = workers(3, lambda cluster: cluster.agree({"recipe": "same", name: given[cluster.worker == 1]}))
    assert all(type(one) is kind and says in str(one) for one in found), found


def test_workers_that_agree_go_on():
    assert workers(2, lambda cluster: cluster.agree({"settings": {"units": 4}, "data": "x"})) == [None, None]


def test_an_address_that_does_not_answer_is_waited_for_no_longer_than_said():
    chief, begun = f"127.0.0.1:{free_port()}", time.monotonic()
    with pytest.raises(TrainError, match=rf"worker 1 got no answer from the chief at {chief} within 0\.3 s"):
        Cluster(chief, 2, 1, wait=0.3).join()
    assert time.monotonic() - begun < 3


def test_an_address_that_answers_and_says_nothing_is_not_waited_for_either():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        chief, begun = f"127.0.0.1:{mute.getsockname()[1]}", time.monotonic()
        with pytest.raises(TrainError, match=f"worker 1 reached {chief}, and no chief"):
            Cluster(chief, 2, 1, wait=0.3).join()
    assert time.monotonic() - begun < 3


def test_the_chief_names_the_workers_that_did_not_come():
    chief = f"127.0.0.1:{free_port()}"
    found = together(Cluster(chief, 4, 0, wait=1.0).join, Cluster(chief, 4, 2, wait=1.0).join)
    assert isinstance(found[0], TrainError) and isinstance(found[1], TrainError)
    assert "after 1 s not all 4 workers were there, missing: worker 1, 3" in str(found[0])


def test_a_port_that_is_taken_and_numbers_that_do_not_fit_are_said():
    with (
        socket.create_server(("", 0)) as other,
        pytest.raises(SettingError, match=r"cannot listen on port .* choose another port"),
    ):
        Cluster(f"127.0.0.1:{other.getsockname()[1]}", 2, 0).join()
    chief = f"127.0.0.1:{free_port()}"
    found = together(Cluster(chief, 2, 0, wait=1.0).join, Cluster(chief, 3, 1, wait=1.0).join)
    assert isinstance(found[1], SettingError)
    assert "the chief expects 2 workers and worker 1 3" in str(found[1])
    twice = together(*(Cluster(chief, 3, number, wait=1.0).join for number in (0, 1, 1)))
    assert [type(one) for one in twice[1:]].count(SettingError) == 1
    assert any("there are two workers of number 1" in str(one) for one in twice)


def test_strangers_who_knock_are_passed_over():
    chief = f"127.0.0.1:{free_port()}"

    def strangers():
        for said in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x02{}", b"\x00\x00\x00\x04null"):
            for _ in range(100):
                try:
                    with socket.create_connection(("127.0.0.1", int(chief.rpartition(":")[2]))) as caller:
                        caller.sendall(said)
                    break
                except OSError:
                    time.sleep(0.02)
        Cluster(chief, 2, 1, wait=10.0).join()

    assert together(Cluster(chief, 2, 0, wait=10.0).join, strangers) == [None, None]


LONG = """
import sys, time
from zoo.train.cluster import Cluster
cluster = Cluster(sys.argv[1], 3, int(sys.argv[2]), wait=20.0)
cluster.join()
print("joined", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("victim", [0, 2])
def test_when_a_worker_is_killed_the_others_end_at_once_and_say_whom_they_miss(victim):
    chief = f"127.0.0.1:{free_port()}"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", LONG, chief, str(number)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for number in range(3)
    ]
    try:
        assert [process.stdout.readline() for process in started] == ["joined\n"] * 3
        started[victim].kill()
        for process in started:
            _, said = process.communicate(timeout=5)
            if process is started[victim]:
                continue
            assert process.returncode == 1
            assert said.startswith(f"{'worker 2' if victim else 'the chief'} has stopped, and so does worker ")
    finally:
        for process in started:
            process.kill()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "a.b", "MASTER_PORT": "5"}, (("a.b", 5), 3, 1)),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a"}, (("a", 2222), 2, 0)),
        (
            {"TF_CONFIG": {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}},
            (("a", 1), 2, 1),
        ),
        (
            {"TF_CONFIG": {"cluster": {"worker": ["a:1"], "chief": ["c:3"]}, "task": {"type": "worker", "index": 0}}},
            (("c", 3), 2, 1),
        ),
        (
            {
                "SLURM_PROCID": "3",
                "SLURM_NTASKS": "4",
                "SLURM_JOB_NODELIST": "gpu-[03-05,9],x",
                "SLURM_JOB_ID": "71234",
            },
            (("gpu-03", 21234), 4, 3),
        ),
        (
            {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "n7,n8", "SLURM_JOB_ID": "5"},
            (("n7", 20005), 1, 0),
        ),
    ],
)
def test_the_environment_describes_a_cluster(monkeypatch, environment, expected):
    clear(monkeypatch)
    for name, value in environment.items():
        monkeypatch.setenv(name, value if isinstance(value, str) else json.dumps(value))
    found = cluster_from_environment(wait=7.0)
    assert (found.address, found.workers, found.worker, found.wait) == (*expected, 7.0)


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "the environment describes no cluster"),
        (
            {"RANK": "1"},
            r"RANK='1', and this with what belongs to it describes no cluster \(KeyError\('MASTER_ADDR'\)\)",
        ),
        ({"RANK": "x", "WORLD_SIZE": "2", "MASTER_ADDR": "a"}, "RANK='x', and this"),
        ({"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "a"}, "received worker 2 of 2, expected one from 0 to 1"),
        (
            {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "x"},
            "address is 'a:x', expected HOST:PORT",
        ),
        ({"TF_CONFIG": "{"}, "TF_CONFIG='{', and this"),
        (
            {"TF_CONFIG": '{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}'},
            "TF_CONFIG has the jobs ps and this is a 'ps'; expected chief and worker alone",
        ),
        ({"SLURM_PROCID": "0"}, "SLURM_PROCID='0', and this"),
    ],
)
def test_an_environment_that_describes_none_is_said(monkeypatch, environment, says):
    clear(monkeypatch)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingError, match=says):
        cluster_from_environment()


def clear(monkeypatch):
    for name in ("TF_CONFIG", "RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)


def test_a_wait_that_cannot_be_is_refused():
    with pytest.raises(SettingError, match="wait=0, expected seconds above 0"):
        Cluster("a:1", 2, 0, wait=0)
