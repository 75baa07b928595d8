"""The memory-based models as plain loops: one event, one node, one neighbour and one mail at a time.

Each model is a class with the same few methods, see ``memory.Oracle``:

* ``batch(events, queries)`` gives what the task sees of each query, [Q, D], with gradients for the parameters;
* ``commit(events)`` takes the batch into the state;
* ``settle()`` and then ``training = False`` go over to evaluation;
* ``state()`` gives all nodes' state under the package's names.

=====  ==================  =====================================================
model  class               parameters, all given as one dictionary by name
=====  ==================  =====================================================
TGN    ``TGNOracle``       ``tgn_shapes``: the package's names
JODIE  ``JODIEOracle``     ``jodie_shapes``
DyRep  ``DyRepOracle``     ``dyrep_shapes``
APAN   ``APANOracle``      ``apan_shapes``
TGAT   ``TGATOracle``      ``tgat_shapes``: the package's names
=====  ==================  =====================================================

There is no dropout; models that are compared have ``dropout=0``. What the definitions leave open is said in the
docstring of each module, and where there are two readings an argument chooses.

A model of the package is compared with its oracle in a few lines, see ``comparison`` and ``test_oracles_tgn.py``::

    case = Case(data, num_nodes, batch_size=3, num_neighbors=[2])       # a stream and how it is read
    model = JODIE(num_nodes, msg_dim, ...)
    params = randomized(model)                                          # float64 copies, by the model's names
    names = {"memory.gru.": "memory.rnn.", "slope": "projection.scale", "shift": "projection.shift"}
    oracle = JODIEOracle(renamed(params, names), case.stream)
    compare(model, params, oracle, case)

``randomized`` gives the model other weights, so that no bias is 0 and no norm is the identity, and returns copies of
them. The oracle is given the very same tensors under its own names (``renamed`` replaces prefixes), so ``compare``
finds their gradients under the model's names. Batch by batch, ``compare`` holds against each other the outputs of all
queries, the gradient of every parameter, and every table of ``oracle.state()``; for a model whose tables are laid out
otherwise, ``tables`` brings them into that form. Batches in training mode come first, with commits between them and
the weights fixed; then the memory settles, and the other batches follow in evaluation mode. The oracle computes in
float64, so that only the model rounds.
"""
