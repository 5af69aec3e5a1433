"""What runs say: statistics, tidy tables, text and pictures, made from folders of runs alone."""
