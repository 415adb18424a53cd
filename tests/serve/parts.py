"""Parts of pyram_serve that need no server."""

import gc
import logging
import os
import tempfile
import types
import unittest
import unittest.mock

from pyram_serve import client, machine, options, urls, worker_memory


class Options(unittest.TestCase):
    def test_ours_are_taken_and_the_rest_is_gunicorns(self):
        own, rest = options.parse(["-w", "3", "--warm-up=7", "--ready-path", "/ok", "--bind", ":1", "site:app"])
        self.assertEqual((own.warm_up, own.ready_path, rest), (7.0, "/ok", ["-w", "3", "--bind", ":1", "site:app"]))

    def test_nonsense_is_named(self):
        for words in (["--warm-up", "soon"], ["--warm-up", "-1"], ["--warm-up-urls"], ["--static", "/x"]):
            with self.assertRaisesRegex(options.Wrong, words[0]):
                options.parse(words)


class Urls(unittest.TestCase):
    def test_a_list(self):
        found, left_out = urls.parse(["/", "# a comment", "", "HEAD /a?b=1", "https://example.org/c#d",
                                      "POST /e", "not a path", "/with\tcontrol"])
        self.assertEqual(found, [("GET", "/"), ("HEAD", "/a?b=1"), ("GET", "/c")])
        self.assertEqual(left_out, {"not GET or HEAD": 1, "not a request": 2})

    def test_an_access_log(self):
        begin = '203.0.113.5 - - [26/Nov/2026:03:00:00 +0000] '
        found, left_out = urls.parse([
            begin + '"GET /page HTTP/1.1" 200 512',
            begin + '"GET /page?x=%20y HTTP/1.1" 304 0 "https://example.org/" "A browser (of "sorts")"',
            begin + '"POST /admin/ HTTP/1.1" 302 0 "-" "-"',
            begin + '"DELETE /x HTTP/2.0" 200 1',
            begin + '"GET /missing HTTP/1.1" 404 9',
            begin + '"\\x16\\x03\\x01" 400 0'])
        self.assertEqual(found, [("GET", "/page"), ("GET", "/page?x=%20y")])
        self.assertEqual(left_out, {"not GET or HEAD": 2, "answered with an error then": 1, "not a request": 1})

    def test_a_header_cannot_be_smuggled_in(self):
        self.assertEqual(urls.parse(["/a\r\nHost: b", "/a\x0bb"])[0], [])


class Machine(unittest.TestCase):
    def root(self, **files):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        for name, text in {"proc/meminfo": "MemTotal: 2048000 kB\n",
                           "proc/self/status": "Cpus_allowed_list:\t0-2,5\n", **files}.items():
            path = os.path.join(directory.name, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write(text)
        return directory.name

    def test_without_limits(self):
        root = self.root()
        self.assertEqual((machine.memory_limit(root), machine.processors(root)), (2048000 << 10, 4))

    def test_control_groups_of_version_2(self):
        root = self.root(**{"proc/self/cgroup": "0::/system.slice/site.service\n",
                            "sys/fs/cgroup/system.slice/site.service/memory.max": "max\n",
                            "sys/fs/cgroup/system.slice/site.service/memory.high": "167772160\n",
                            "sys/fs/cgroup/system.slice/memory.max": "268435456\n",
                            "sys/fs/cgroup/system.slice/cpu.max": "150000 100000\n"})
        self.assertEqual((machine.memory_limit(root), machine.processors(root)), (160 << 20, 2))

    def test_control_groups_of_version_1(self):
        root = self.root(**{"proc/self/cgroup": "5:cpu,cpuacct:/a\n4:memory:/a/b\n",
                            "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "268435456\n",
                            "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "9223372036854771712\n",
                            "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "50000\n",
                            "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n"})
        self.assertEqual((machine.memory_limit(root), machine.processors(root)), (256 << 20, 1))

    def test_workers(self):
        self.assertEqual(machine.workers_and_threads(128 << 20, 8), (1, machine.THREADS_OF_ONE))
        self.assertEqual(machine.workers_and_threads(256 << 20, 2), (2, 1))
        self.assertEqual(machine.workers_and_threads(64 << 30, 4), (4, 1))
        self.assertEqual(machine.workers_and_threads(64 << 30, 64), (machine.MOST_WORKERS, 1))


MB = 1 << 20


class WorkerMemory(unittest.TestCase):
    """What a worker does at each of its requests, for what it has then."""

    def watch(self, room, limit=32 * MB):
        log = logging.getLogger("worker memory")
        watch = worker_memory.Watch(limit // MB)
        watch.room = room
        self.worker = types.SimpleNamespace(nr=0, max_requests=0, log=types.SimpleNamespace(
            info=log.info, debug=log.debug, warning=log.warning, error_log=logging.getLogger("errors of it")))
        self.addCleanup(gc.enable)
        self.own = 1 * MB
        for name, value in (("own_memory", lambda: self.own), ("faults", lambda: self.own >> 12)):
            patch = unittest.mock.patch.object(worker_memory, name, value)
            patch.start()
            self.addCleanup(patch.stop)
        watch.begin(self.worker)
        return watch

    def requests_until_replaced(self, watch, each, most=1000):
        for number in range(1, most + 1):
            self.own += each
            self.worker.nr = number
            watch.request()
            if self.worker.max_requests:
                return number
        return None

    def test_room_is_shared_out(self):
        room = worker_memory.Room(256 * MB, 100 * MB, 2)
        self.assertEqual((room.size >> 20, room.staying), (39, False))
        self.assertEqual(worker_memory.Room(64 * MB, 100 * MB, 2).size, worker_memory.LEAST)
        self.assertTrue(worker_memory.Room(1024 * MB, 100 * MB, 2).staying)

    def test_slow_growth_ends_at_the_limit(self):
        watch = self.watch(worker_memory.Room(8192 * MB, 100 * MB, 2))
        number = self.requests_until_replaced(watch, MB // 10)
        self.assertTrue(290 <= number <= 320, number)

    def test_sudden_growth_is_seen_by_its_page_faults(self):
        watch = self.watch(worker_memory.Room(8192 * MB, 100 * MB, 2))
        self.assertIsNone(self.requests_until_replaced(watch, 0, 500))
        number = self.requests_until_replaced(watch, MB)
        self.assertTrue(25 <= number <= 45, number)

    def test_few_looks_at_the_memory(self):
        watch = self.watch(worker_memory.Room(8192 * MB, 100 * MB, 2))
        with unittest.mock.patch.object(worker_memory, "own_memory", side_effect=lambda: self.own) as looks:
            self.assertIsNotNone(self.requests_until_replaced(watch, MB // 20))
        self.assertLess(looks.call_count, 12)

    def test_fast_growth_stays_where_there_is_room(self):
        watch = self.watch(worker_memory.Room(8192 * MB, 100 * MB, 2))
        self.assertIsNone(self.requests_until_replaced(watch, MB))
        self.assertTrue(gc.isenabled())

    def test_fast_growth_without_room_ends_before_it_is_used_up(self):
        watch = self.watch(worker_memory.Room(256 * MB, 100 * MB, 2))
        for _ in range(3):
            number = self.requests_until_replaced(watch, MB)
            self.assertTrue(30 <= number <= 40, number)
            self.assertFalse(gc.isenabled())
            watch = self.watch(watch.room)

    def test_less_room_than_the_limit(self):
        watch = worker_memory.Watch(32)
        said = []
        with unittest.mock.patch.object(worker_memory, "room",
                                        lambda workers: worker_memory.Room(220 * MB, 120 * MB, workers)):
            watch.prepare(types.SimpleNamespace(warning=lambda text, *words: said.append(text % words)), 2)
        self.assertEqual(watch.limit >> 20, 12)
        self.assertIn("room for 12 MB", said[0])

    def test_the_memory_decides(self):
        for memory, limit in ((8192, 0), (600, 0), (512, 120), (256, 29), (64, 8)):
            watch = worker_memory.Watch(None)
            with unittest.mock.patch.object(worker_memory, "room",
                                            lambda workers: worker_memory.Room(memory * MB, 100 * MB, workers)):
                watch.prepare(None, 2)
            self.assertEqual((watch.limit or 0) >> 20, limit, memory)

    def test_another_thread_looks_at_the_same_time(self):
        watch = self.watch(worker_memory.Room(8192 * MB, 100 * MB, 2))
        watch.numbers[:] = [worker_memory.EARLY, 0, 0, 0]

        def own_memory():
            watch.request()
            return 40 * MB
        with unittest.mock.patch.object(worker_memory, "own_memory", own_memory):
            watch.request()
        self.assertEqual(self.worker.max_requests, self.worker.nr)
        self.assertIsNone(watch.worker)


class Rounds(unittest.TestCase):
    """When a warm-up ends, with a clock and a worker that are made up."""

    def rates_of(self, rate):
        """`rate` is the worker's, in requests per second, after so many seconds."""
        now = [0.0]

        def ask(plan, request):
            now[0] += 1 / rate(now[0])
            return 200

        usual = client.ask, client.processor_time, client.time.monotonic
        client.ask, client.processor_time, client.time.monotonic = ask, lambda: now[0], lambda: now[0]
        try:
            plan = type("Plan", (), {"requests": [("GET", "/")]})
            return (*client.rounds(plan, 60.0), now[0])
        finally:
            client.ask, client.processor_time, client.time.monotonic = usual

    def test_it_goes_on_while_the_rate_rises(self):
        _, rates, seconds = self.rates_of(lambda second: 100 + 50 * min(second, 20))
        self.assertAlmostEqual(rates[-1], 1100, delta=20)
        self.assertTrue(20 < seconds < 35, seconds)

    def test_it_ends_when_the_rate_rises_no_longer(self):
        _, rates, _ = self.rates_of(lambda second: 1000)
        self.assertEqual(len(rates), 1 + client.PATIENCE)

    def test_it_ends_when_the_time_is_over(self):
        _, _, seconds = self.rates_of(lambda second: 100 * 1.05 ** second)
        self.assertAlmostEqual(seconds, 60, delta=1)

    def test_nothing_to_ask_for(self):
        plan = type("Plan", (), {"requests": []})
        self.assertEqual(client.rounds(plan, 1e9), (0, []))


unittest.main()
