"""A slow permutohedral lattice, as Adams, Baek and Davis (2010) have it, in float64.

Its vertices are keys of a dictionary: the D + 1 coordinates of section 3, whole numbers that sum to
0 and have one remainder by D + 1.
"""

import math

import numpy as np


def basis(depth):
    """[D + 1, D]: orthonormal columns, each of which sums to 0 and ends in the next coordinate."""
    columns = np.triu(np.ones((depth + 1, depth)))
    for i in range(depth):
        columns[i + 1, i] = -(i + 1)
    return columns / np.linalg.norm(columns, axis=0)


def elevated(features):
    """[N, D + 1]: positions, where a standard deviation is sqrt(2/3) (D + 1) (section 4.1)."""
    features = np.asarray(features, np.float64)
    depth = features.shape[1]
    return features @ basis(depth).T * (math.sqrt(2 / 3) * (depth + 1))


def simplex(position):
    """The D + 1 vertices around a position, of remainder 0, 1, ..., D, and barycentric weights.

    Conway and Sloane's way to the nearest vertex of remainder 0, then propositions 3.2 and 3.4.
    """
    kinds = len(position)
    corner = np.round(position / kinds)
    excess = int(corner.sum())
    order = np.argsort(corner * kinds - position, kind="stable")
    if excess > 0:
        corner[order[kinds - excess :]] -= 1
    else:
        corner[order[:-excess]] += 1
    corner *= kinds
    above = (position - corner) / kinds
    order = np.argsort(-above, kind="stable")
    falling = above[order]
    weights = [1 + falling[-1] - falling[0]]
    weights += [falling[kinds - 1 - k] - falling[kinds - k] for k in range(1, kinds)]
    vertices = np.tile(corner.astype(int), (kinds, 1))
    for k in range(1, kinds):
        vertices[k] += k
        vertices[k, order[kinds - k :]] -= kinds
    return [tuple(v.tolist()) for v in vertices], np.array(weights)


def simplices(features):
    """Of each point `simplex`."""
    return [simplex(position) for position in elevated(features)]


def splat(features, values):
    """{vertex: the weighted sum of its points' values}."""
    grid = {}
    for (vertices, weights), value in zip(simplices(features), np.asarray(values), strict=True):
        for vertex, weight in zip(vertices, weights, strict=True):
            grid[vertex] = grid.get(vertex, 0) + weight * value
    return grid


def step(vertex, axis, sign):
    """The next vertex along an axis: D + 1 more there, and 1 less everywhere; or the one before."""
    moved = [c - sign for c in vertex]
    moved[axis] += sign * len(vertex)
    return tuple(moved)


def blur(grid, axes):
    """[1/2, 1, 1/2] along one axis after the other, of the vertices that there are."""
    for axis in axes:
        at = lambda vertex, sign, axis=axis, grid=grid: grid.get(step(vertex, axis, sign), 0)
        grid = {v: g + 0.5 * (at(v, 1) + at(v, -1)) for v, g in grid.items()}
    return grid


def slice_(features, grid):
    """[N, C]: of each point the weighted sum of its vertices."""
    return np.array(
        [sum(w * grid[v] for v, w in zip(*one, strict=True)) for one in simplices(features)]
    )


def scale(depth):
    """The Gaussian's integral over what one point of each unit of volume would get.

    A vertex stands for the volume of one cell, and each axis doubles the sum.
    """
    cell = math.sqrt(np.linalg.det(cell_gram(depth)))
    deviation = math.sqrt(2 / 3) * (depth + 1)
    return math.sqrt(2 * math.pi) ** depth / (cell / deviation**depth * 2 ** (depth + 1))


def cell_gram(depth):
    """Inner products of the lattice's D steps along an axis, between which its cell lies."""
    steps = np.array([step((0,) * (depth + 1), axis, 1) for axis in range(depth)], np.float64)
    return steps @ steps.T
