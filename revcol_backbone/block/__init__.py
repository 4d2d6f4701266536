"""The block of RevCol as one function, with its backward pass by hand."""
