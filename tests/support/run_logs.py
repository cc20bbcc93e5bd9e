"""What a run has logged, without the clock."""

import csv

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

CLOCKS = ("time/env_steps_per_second", "time/seconds")


def rows_of(path):
    with path.open() as file:
        return [
            {key: value for key, value in row.items() if key not in CLOCKS}
            for row in csv.DictReader(file)
        ]


def scalars(directory):
    """All that TensorBoard shows: for each tag the (step, value) pairs."""
    events = EventAccumulator(str(directory), size_guidance={"scalars": 0, "images": 0}).Reload()
    shown = {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if tag not in CLOCKS
    }
    return shown, events.Tags()["images"]
