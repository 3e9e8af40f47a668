"""What is to be solved: levels, their families, rendering, prompts, and the Parquet data set with its contract."""
