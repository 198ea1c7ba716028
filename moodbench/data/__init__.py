"""Sources to examples with fixed splits, to tokenised Arrow in a content-addressed cache."""
