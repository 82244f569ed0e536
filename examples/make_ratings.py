"""Writes ratings.csv and movies.csv: the log and the items of docs/own_csv.md."""

import csv

import numpy as np

rng = np.random.default_rng(0)
genres = ["action", "comedy", "drama", "horror"]
genre = rng.integers(4, size=400)  # of each movie
good = rng.normal(size=400)  # how good a movie is, for who likes its genre

with open("ratings.csv", "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["userId", "movieId", "rating", "timestamp"])
    for user in range(800):
        likes, now, pleased = rng.permutation([1.5, 0.5, -0.5, -1.5]), 1_700_000_000 + rng.integers(10**6), 0.0
        for _ in range(rng.integers(80, 160)):
            movie = rng.integers(400)
            joy = likes[genre[movie]] + good[movie]
            rating = np.clip(np.round(6 + 2 * joy + rng.normal()), 1, 10) / 2
            rows.writerow([user + 1, movie + 1, rating, now])
            pleased = 0.9 * pleased + 0.1 * joy
            away = 3600 + 86_400 * np.exp(rng.normal(0.5, 0.5) - 1.5 * pleased)
            now += int(rng.integers(20, 600) if rng.random() < 0.8 else away)

with open("movies.csv", "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["movieId", "title", "critics", *genres])
    for movie, kind in enumerate(genre):
        critics = np.tanh((good[movie] + 0.3 * rng.normal()) / 2)
        rows.writerow([movie + 1, f"{genres[kind]} {movie + 1}", critics, *(np.arange(4) == kind).astype(int)])
