"""The tools an agent lacks, built and proved at run time."""
