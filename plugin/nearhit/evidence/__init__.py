"""What is known of the answers that the cache served, or would have served.

bounds       what labels prove about the share of wrong answers
journal      the decisions and their labels, on disk, shared by all workers
judge        a model that says whether a stored answer serves a question
calibration  the operator's own thresholds
watch        what follows for the next question: quarantine, and a tighter threshold
witness      writes decisions down, and has some of them verified
report       hits, savings and mistakes of some days
commands     the same for a person at a terminal
"""
