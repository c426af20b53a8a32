"""What tables say of rows: `python3 -m unittest relaybench.tests`, from the folder above."""

import pathlib
import tempfile
import unittest

from . import contestants, machine, promises, report, scenarios


def row(contestant, cpu, number=0, lost=0, p50=50.0, **more):
    figures = {"cpu_ms_per_gbit_out": cpu, "p50_us": p50, "p99_us": 2 * p50, "p999_us": 3 * p50}
    return {"contestant": contestant, "round": number, "lost": lost, "expected": 100_000, **figures, **more}


def results(*rows):
    return report.Results(rows, "cpu_ms_per_gbit_out", False)


class Ratios(unittest.TestCase):
    def test_they_are_made_within_a_round(self):
        found = results(
            row("floor-gso", 100, 0), row("floor-gso", 200, 1), row("mediaconnectd-0s", 110, 0), row("mediaconnectd-0s", 220, 1)
        )  # fmt: skip
        self.assertEqual(found.ratios("mediaconnectd-0s", "floor-gso"), [1.1, 1.1])

    def test_only_a_floor_of_the_same_budget_counts(self):
        found = results(row("floor-gso", 100), row("floor-mmsg", 90), row("floor-gso+1ms", 20), row("mediaconnectd-1ms", 30))
        self.assertEqual(found.best_floor("mediaconnectd-1ms"), "floor-gso+1ms")
        self.assertEqual(found.best_floor("mediaconnectd-auto"), "floor-mmsg")

    def test_a_peer_that_loses_packets_or_adds_latency_is_not_the_best(self):
        found = results(
            row("mediaconnectd-0s", 100), row("socat", 90, lost=200), row("srt-live-transmit", 10, p50=5000.0),
            row("gstreamer", 120, lost=100, p50=110.0), row("ffmpeg", 130),
        )  # fmt: skip
        self.assertEqual(found.best_peer("mediaconnectd-0s"), "gstreamer")


class Promises(unittest.TestCase):
    def test_the_median_is_held_against_the_limit(self):
        self.assertTrue(promises.Promise("s", "cpu", [1.0, 1.1, 9.0], 1.15).kept)
        self.assertFalse(promises.Promise("s", "cpu", [1.0, 1.2, 1.2], 1.15).kept)
        self.assertFalse(promises.Promise("s", "rate", [0.8], 0.85, least=True).kept)

    def test_every_scenario_has_a_table_and_what_was_not_measured_promises_nothing(self):
        for name in scenarios.ALL:
            self.assertEqual(len(report.table(name, [])), 2, name)
        self.assertEqual(promises.table({name: report.results_of(name, []) for name in scenarios.ALL}), [])

    def test_a_lost_packet_is_a_promise_missed(self):
        found = promises.table({"rtp-1-to-1-20M": results(row("mediaconnectd-5ms", 100, lost=1))})
        self.assertIn("| rtp-1-to-1-20M | mediaconnectd-5ms: lost packets | at most 0 | 1 |  | **missed** |", found)


    def test_a_receiver_costs_no_more_among_a_hundred(self):
        ten, hundred = results(row("mediaconnectd-srt", 50)), results(row("mediaconnectd-srt", 60))
        found = promises.table({"srt-out-10-20M": ten, "srt-out-100-20M": hundred})
        self.assertIn(
            "| srt-out-100-20M | mediaconnectd-srt: CPU of a receiver, 100 to 10 | at most 1.00 | 1.20 |  | **missed** |", found
        )


class Srt(unittest.TestCase):
    def commands(self, name, **work):
        with tempfile.TemporaryDirectory() as folder:
            flows = [contestants.Flow(6000, [7000])]
            work = contestants.Work(flows, pathlib.Path(folder), **work)
            commands = contestants.ALL[name].commands(work)
            if name != "mediaconnectd-srt":
                return commands
            key = work.folder / "etc/secrets/key"
            return contestants.flow_path(work, 0).read_text(), key.exists() and key.read_text()

    def test_a_daemon_has_its_passphrase_in_a_file(self):
        flow, key = self.commands("mediaconnectd-srt", passphrase="0123456789ab")
        self.assertIn('protocol = "srt-listener"\nbind = "127.0.0.1:6000"\n', flow)
        self.assertIn('passphrase-file = "key"', flow)
        self.assertNotIn("0123456789ab", flow)
        self.assertEqual(key, "0123456789ab")

    def test_an_output_lets_all_receivers_call(self):
        flow, key = self.commands("mediaconnectd-srt", receivers=100)
        self.assertIn("[outputs.o0]", flow)
        self.assertIn("max-callers = 100", flow)
        self.assertFalse(key)

    def test_ffmpeg_serves_one_receiver(self):
        self.assertIsNone(self.commands("ffmpeg-srt", receivers=10))
        self.assertEqual(len(self.commands("ffmpeg-srt", receivers=1)), 1)


class Rist(unittest.TestCase):
    def test_a_daemon_has_rist_at_one_end_and_udp_at_the_other(self):
        for name, udp, rist in (("in", "outputs.out", "sources.in"), ("out", "sources.in", "outputs.out")):
            with tempfile.TemporaryDirectory() as folder:
                work = contestants.Work([contestants.Flow(6000, [7000])], pathlib.Path(folder))
                contestants.ALL[f"mediaconnectd-rist-{name}"].commands(work)
                text = contestants.flow_path(work, 0).read_text()
            self.assertIn(f'[{udp}]\nprotocol = "udp"\n', text)
            self.assertIn(f'[{rist}]\nprotocol = "rist"\n', text)
            self.assertEqual(text.count('profile = "simple"\nlatency = "200ms"\n'), 1)


class Cells(unittest.TestCase):
    def test_one_figure_stands_alone_and_several_have_their_range(self):
        self.assertEqual(report.cell([3.0], report.number(1)), "3.0")
        self.assertEqual(report.cell([1, 2, 9], report.number()), "2 (1–9)")
        self.assertEqual(report.cell([], report.number()), "")
        self.assertEqual(report.cell([12_345.0], report.microseconds), "12.3 ms")


class Ports(unittest.TestCase):
    def test_free_ports_are_in_a_row_and_free(self):
        ports = machine.free_ports(50)
        self.assertEqual(ports, list(range(ports[0], ports[0] + 50)))
        self.assertFalse(machine.udp_sockets().keys() & ports)


if __name__ == "__main__":
    unittest.main()
