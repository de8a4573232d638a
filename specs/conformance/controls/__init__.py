"""Controls of the suite: a faultless server that no case may fail, and faults to be found."""
