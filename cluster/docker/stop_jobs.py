"""Have every job of the Ray whose dashboard is at this address end, and wait until they have: stop_jobs.py ADDRESS.

What the pod of a head does before it goes, so that sweeps save their runs. A job may be asked twice; a sweep that
gets a second signal ends at once.
"""

import sys
import time

from ray.job_submission import JobSubmissionClient

client = JobSubmissionClient(sys.argv[1])
jobs = [job.submission_id for job in client.list_jobs() if job.submission_id and not job.status.is_terminal()]
for job in jobs:
    client.stop_job(job)
while not all(client.get_job_status(job).is_terminal() for job in jobs):
    time.sleep(1)
