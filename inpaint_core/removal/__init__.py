"""The removal flow without Ray: config, listing, one image's way through, measures, records and the ledger."""
