"""Mini-batches that an idle node takes over: `lender` on the side that has them, `borrower` on the other."""
