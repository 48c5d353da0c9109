"""What runs the networks of a stream: torch itself, or OpenVINO on a CPU. What the networks mean is in engine/models."""
