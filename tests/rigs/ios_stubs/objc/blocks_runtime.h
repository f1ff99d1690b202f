// GNUstep's headers ask for it where blocks are on; a syntax check needs nothing of it.
