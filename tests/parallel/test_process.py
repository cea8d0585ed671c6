"""What a process asks of its libraries can be asked anywhere."""

from nomoat.parallel.process import keep_freed_memory


def test_freed_memory_can_be_asked_to_stay():
    keep_freed_memory()
