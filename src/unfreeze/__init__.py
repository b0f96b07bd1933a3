"""Which fine-tuning strategy should I use for my text classifier, and what do I give up?"""
