"""The validation layers a message passes after its schema; read `pipeline.py` first."""
