"""The machine as it is: processors, memory, accelerators, and the key under which speeds may be compared."""
