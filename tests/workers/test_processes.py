import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from workers.processes import has_exited, is_alive, kill_family, out_of_memory_kills, resident_bytes, this_process


def start(code):
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)


def test_a_process_is_known_by_number_and_start():
    me = this_process()
    assert me.pid == os.getpid()
    assert is_alive(me.pid, me.started)
    assert not is_alive(me.pid, me.started - 3600), "another process had this number an hour ago"
    process = start("")
    started = psutil.Process(process.pid).create_time()
    process.communicate()
    assert not is_alive(process.pid, started)


def test_a_process_that_ended_is_seen_but_not_reaped():
    process = start("raise SystemExit(5)")
    while not has_exited(process):
        time.sleep(0.01)
    assert process.returncode is None
    kill_family(process)
    assert process.returncode == 5
    process.stdout.close()


def test_a_family_is_killed_with_members_that_left_the_group():
    code = (
        "import subprocess, sys, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "own = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "left = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "sys.stdout.write(f'{own.pid} {left.pid}\\n'); sys.stdout.flush()\n"
        "time.sleep(600)\n"
    )
    process = start(code)
    family = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
    kill_family(process, grace_seconds=0.05)
    process.stdout.close()
    assert process.returncode == -9
    for member in family:
        member.wait(30)
    kill_family(process)  # a second time does nothing


def test_memory_of_descendants_counts():
    process = start(
        "import subprocess, sys\n"
        "code = 'held = b\"x\" * 100_000_000; print(1, flush=True); import time; time.sleep(600)'\n"
        "subprocess.run([sys.executable, '-c', code])\n"
    )
    process.stdout.readline()
    assert 100_000_000 < resident_bytes(process.pid) < 400_000_000
    kill_family(process)
    process.stdout.close()
    assert resident_bytes(process.pid) == 0


def test_workers_start_without_heavy_libraries():
    code = (
        "import sys, workers.ray_pool, workers.local_pool, workers.child\n"
        "heavy = {'ray', 'torch', 'optuna', 'sklearn', 'pandas', 'sqlalchemy'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent.parent)


def test_the_kernel_says_how_many_it_killed_or_nothing():
    assert out_of_memory_kills() >= 0
