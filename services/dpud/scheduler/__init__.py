"""The scheduler: a pure brain, a durable journal, one writer, two services."""
