"""What `tests/bench/run` and `tests/bench/instructions` are made of. README.md beside them says how it measures.

machine      processes, CPUs, CPU time, memory, ports; everything that is started ends with the benchmark
contestants  the programs that are compared: how each is told its work
srt          the same for SRT
measure      one measurement: contestant, sender and sink, and what comes of them
scenarios    what is measured
promises     limits, and whether they are kept
report       tables, ratios, results.md
plot         the plots beside it
"""
