"""What synthetic rows are worth, measured against real rows: fidelity, diversity, labels and use."""
