"""What the plots and the decision are made of: a movie in runs, its noise, its cells."""
