"""Long-running operations: started, followed, cancelled. Imports the ground floor only: ports, records, errors."""
