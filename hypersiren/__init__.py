"""hypersiren: hypernetworks that predict SIRENs, and SIRENs for every task of the SIREN paper."""
