"""Builds the sites of a net from a spec and an input shape, and checks that the shapes fit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from spikeloom.base.errors import ShapeError, UnsupportedNet
from spikeloom.base.seeding import derive_seed
from spikeloom.nets.module.graph import components
from spikeloom.nets.module.site import Role, Site
from spikeloom.nets.module.synapse import Shape, Synapse
from spikeloom.nets.spec.layer import LayerSpec
from spikeloom.nets.spec.net import BlockSpec, FeedbackSpec, NetSpec
from spikeloom.neurons.module import Neuron


@dataclass(eq=False)
class Pass:
    """One pass through a block: the sites of its layers and of its shortcut, in order."""

    sites: tuple[Site, ...]
    shortcut: tuple[Site, ...]


@dataclass(eq=False)
class Block:
    """A block with its passes.

    Args:
        spec: the block's spec.
        number: its place in the net.
        passes: one for each repeat.
        in_shape: one sample's shape at the input.
        out_shape: one sample's shape at the output.
        source: site whose output is the block's output; None where signals were joined.
        upstream: last site with a unit before the block's end.
        kept: channels that fit = "drop" keeps between passes; None if it drops none.
    """

    spec: BlockSpec
    number: int
    passes: tuple[Pass, ...]
    in_shape: Shape
    out_shape: Shape
    source: Site | None
    upstream: Site | None
    kept: Tensor | None = None

    @property
    def sites(self) -> tuple[Site, ...]:
        """All sites of all passes."""
        paths = [path for one in self.passes for path in (one.sites, one.shortcut)]
        return tuple(site for path in paths for site in path)


@dataclass(eq=False)
class Edge:
    """A feedback edge: its spec, its number, and the sites of its path."""

    spec: FeedbackSpec
    number: int
    sites: tuple[Site, ...]


@dataclass(frozen=True, eq=False)
class Component:
    """A strongly connected part of the net: one block, or the blocks and edges of a feedback loop.

    Learning rules also get single layers as components, without blocks.

    Args:
        sites: in order of computation, those of edges last.
        blocks: consecutive blocks; empty for a single layer.
        edges: edges with both ends inside. Without edges the blocks run on whole trains.
    """

    sites: tuple[Site, ...]
    blocks: tuple[Block, ...] = ()
    edges: tuple[Edge, ...] = ()

    @property
    def entrance(self) -> Site:
        """The first site. Without feedback added, its current does not depend on the loop."""
        return self.sites[0]

    @property
    def first(self) -> int:
        """Number of the first block."""
        return self.blocks[0].number

    @property
    def end(self) -> int:
        """Number of the last block plus 1."""
        return self.blocks[-1].number + 1

    def holds(self, block: int) -> bool:
        """Whether the block with this number is inside."""
        return self.first <= block < self.end


@dataclass(eq=False)
class _Signal:
    """What is known about the signal between two layers while the net is built.

    Args:
        shape: of one sample.
        source: site whose output it is; None for the net's input and joined signals.
        static: whether it is the same at every step if the net's input is.
        external: whether it is the net's input, pooled at most.
        upstream: last site with a unit before it.
    """

    shape: Shape
    source: Site | None
    static: bool
    external: bool = False
    upstream: Site | None = None

    def passed(self, site: Site) -> None:
        """Update after a site."""
        self.shape, self.source, self.static = site.out_shape, site, site.static
        self.external = self.external and site.unit is None and not site.spec.weighted
        self.upstream = site if site.unit is not None else self.upstream


class Plan(nn.Module):
    """All modules of a net and the order in which they run.

    Passes of a block share their synapses; each pass has its own norms and neurons.

    Args:
        spec: the network.
        in_shape: one sample's shape, (C, H, W) or (D,).
        see: called with every synapse when it is made, and the name of its layer.

    Raises:
        ShapeError: shapes that do not fit; the message names the layer.
        UnsupportedNet: the output shape of a repeated or joined block does not match.
    """

    def __init__(
        self, spec: NetSpec, in_shape: Shape, see: Callable[[Synapse, str], None] | None = None
    ) -> None:
        super().__init__()
        self._see = see
        self.synapses = nn.ModuleDict()
        self.norms = nn.ModuleDict()
        self.neurons = nn.ModuleDict()
        signal = _Signal(in_shape, None, spec.input_psp is None, external=True)
        targets = {edge.target for edge in spec.feedback}
        blocks: list[Block] = []
        for number, block in enumerate(spec.blocks):
            if number == spec.tail:
                signal.static = False
            blocks.append(self._block(block, number, signal, number in targets))
        self.blocks = tuple(blocks)
        self.edges = tuple(
            self._edge(edge, number, blocks) for number, edge in enumerate(spec.feedback)
        )
        self.out_shape = signal.shape
        self.components = self._components()
        self._find_pools(spec)
        sites = self.sites
        # Norms of `over_all` take statistics over all steps. Those of `over_all_looped` lie inside
        # a loop, where they never see all steps at once: training with them is refused.
        self.over_all = tuple(site for site in sites if site.spec.norm == "batch_all")
        entrances = [component.entrance for component in self.components]
        self.over_all_looped = tuple(
            site for site in self.over_all if site.looped and site not in entrances
        )

    def _components(self) -> tuple[Component, ...]:
        """Return the components in order of computation, and mark the sites inside loops."""
        found: list[Component] = []
        ends = [(edge.spec.source, edge.spec.target) for edge in self.edges]
        for run in components(len(self.blocks), ends):
            blocks = self.blocks[run.start : run.stop]
            edges = [edge for edge in self.edges if {edge.spec.source, edge.spec.target} <= {*run}]
            sites = [site for one in (*blocks, *edges) for site in one.sites]
            for site in sites if edges else ():
                site.looped = True
            found.append(Component(tuple(sites), blocks, tuple(edges)))
        return tuple(found)

    def _find_pools(self, spec: NetSpec) -> None:
        """Set `Site.pool` for average pools that can be computed with the unit before them."""
        fed = {edge.source for edge in spec.feedback}
        alone = {number for number, block in enumerate(spec.blocks) if block.join == "none"}
        for block in self.blocks:
            if block.number not in alone:
                continue
            for one in block.passes:
                for site in one.sites:
                    before = site.source
                    first = site is one.sites[0]
                    crosses = block.number == spec.tail or block.number - 1 in fed
                    # feedback is added to the pool's output before it is used: not combinable
                    if before is None or site.meets or (first and crosses):
                        continue
                    if not site.plain_pool:
                        continue
                    owner = int(before.name.split(".")[0])
                    if owner in alone and before.unit is not None and before.unit.stateful:
                        before.pool = site

    @property
    def sites(self) -> tuple[Site, ...]:
        """All sites: blocks in order of computation, then feedback edges."""
        body = [site for block in self.blocks for site in block.sites]
        return (*body, *(site for edge in self.edges for site in edge.sites))

    def _block(self, spec: BlockSpec, number: int, signal: _Signal, fed: bool) -> Block:
        in_shape = signal.shape
        passes: list[Pass] = []
        kept = None
        for turn in range(spec.repeat):
            if turn > 0:
                kept = self._refit(spec, number, in_shape, signal)
            passes.append(self._pass(spec, number, turn, signal, fed and turn == 0))
        return Block(
            spec,
            number,
            tuple(passes),
            in_shape,
            signal.shape,
            source=signal.source,
            upstream=signal.upstream,
            kept=kept,
        )

    def _pass(self, spec: BlockSpec, number: int, turn: int, signal: _Signal, fed: bool) -> Pass:
        tap = replace(signal)
        tapped = spec.tap == "input"
        sites: list[Site] = []
        shortcut: tuple[Site, ...] = ()
        for row, layer in enumerate(spec.layers):
            last = row == len(spec.layers) - 1
            site = self._site(layer, f"{number}.{row}.{turn}", f"{number}_{row}", signal)
            sites.append(site)
            if last and spec.join == "before_unit":
                shortcut = self._path(spec.shortcut, f"{number}.s", turn, tap, "shortcut")
                self._check_join(spec, number, site.out_shape, tap.shape)
                site.static, site.meets = site.static and tap.static, True
            if fed and row == 0:
                site.static, site.meets = False, True
            signal.passed(site)
            if not tapped and site.unit is not None:
                tap, tapped = replace(signal), True
        if spec.join not in ("none", "before_unit"):
            shortcut = self._path(spec.shortcut, f"{number}.s", turn, tap, "shortcut")
            self._check_join(spec, number, signal.shape, tap.shape)
            signal.source, signal.static = None, signal.static and tap.static
            signal.external = False
        return Pass(tuple(sites), shortcut)

    def _path(
        self, layers: Sequence[LayerSpec], prefix: str, turn: int, signal: _Signal, role: Role
    ) -> tuple[Site, ...]:
        sites = []
        for row, layer in enumerate(layers):
            key = f"{prefix}{row}".replace(".", "_")
            site = self._site(layer, f"{prefix}{row}.{turn}", key, signal, role)
            sites.append(site)
            signal.passed(site)
        return tuple(sites)

    def _site(
        self, layer: LayerSpec, name: str, shared: str, signal: _Signal, role: Role = "body"
    ) -> Site:
        if shared not in self.synapses:
            self._add(shared, Synapse(layer, signal.shape, name), name)
        synapse = self.synapses[shared]
        assert isinstance(synapse, Synapse)
        own = name.replace(".", "_")
        shape = synapse.out_shape
        norm, neuron = None, None
        if layer.norm in ("batch_all", "batch_step"):
            norm = nn.BatchNorm2d(shape[0]) if len(shape) == 3 else nn.BatchNorm1d(shape[0])
            self.norms[own] = norm
        if layer.neurons is not None:
            neuron = Neuron(layer.neurons, shape[0], len(shape) - 1)
            self.neurons[own] = neuron
        stateful = layer.neurons is not None and layer.neurons.stateful
        fresh_mask = layer.dropout > 0 and not layer.dropout_held
        return Site(
            name=name,
            spec=layer,
            synapse=synapse,
            norm=norm,
            neuron=neuron,
            role=role,
            source=signal.source,
            upstream=signal.upstream,
            external=signal.external,
            static_input=signal.static,
            static=signal.static and not (stateful or fresh_mask or layer.psp),
        )

    def _add(self, key: str, synapse: Synapse, name: str) -> None:
        self.synapses[key] = synapse
        if self._see is not None:
            self._see(synapse, name)

    def _refit(
        self, spec: BlockSpec, number: int, in_shape: Shape, signal: _Signal
    ) -> Tensor | None:
        """Check that a pass's output can enter the next pass; return the channels "drop" keeps."""
        (c_in, *side_in), (c_out, *side_out) = in_shape, signal.shape
        if side_in != side_out:
            raise UnsupportedNet(
                f"net.blocks.{number}: expected a repeated block to keep its map size {side_in}, "
                f"got {side_out}; move pools and strides out of the block."
            )
        if c_in == c_out:
            return None
        if spec.fit == "none":
            raise UnsupportedNet(
                f"net.blocks.{number}: expected {c_in} channels for the next pass, got {c_out}; "
                "set fit to 'drop', 'topk' or 'average', or make the widths equal."
            )
        if spec.fit == "average" and c_out > c_in and c_out % c_in:
            raise UnsupportedNet(
                f"net.blocks.{number}: expected out channels divisible by {c_in} for fit "
                f"'average', got {c_out}; change the width or use 'drop' or 'topk'."
            )
        signal.shape, signal.source = in_shape, None
        if spec.fit != "drop" or c_out < c_in:
            return None
        generator = torch.Generator().manual_seed(derive_seed("fit", spec.fit_seed, number))
        kept = torch.randperm(c_out, generator=generator, device="cpu")[:c_in].sort().values
        self.register_buffer(f"kept_{number}", kept, persistent=True)
        return kept

    def _check_join(self, spec: BlockSpec, number: int, out: Shape, shortcut: Shape) -> None:
        if out != shortcut:
            raise UnsupportedNet(
                f"net.blocks.{number}: expected shortcut and block to end alike for join "
                f"'{spec.join}', got {shortcut} and {out}; add a projecting shortcut, e.g. "
                f"shortcut = 'c{out[0]}k1'."
            )

    def _edge(self, spec: FeedbackSpec, number: int, blocks: list[Block]) -> Edge:
        source, target = blocks[spec.source], blocks[spec.target]
        signal = _Signal(source.out_shape, source.source, False, upstream=source.upstream)
        *head, last = spec.layers
        prefix = f"feedback{number}."
        sites = self._path(head, prefix, 0, signal, "feedback")
        key = f"{prefix}{len(head)}".replace(".", "_")
        synapse = Synapse(
            last,
            signal.shape,
            prefix,
            mask=spec.mask,
            restrict=spec.restrict,
            restrict_norm=spec.restrict_norm,
            zero=spec.zero,
        )
        self._add(key, synapse, prefix)
        end = self._site(last, f"{prefix}{len(head)}.0", key, signal, "feedback")
        expected = target.passes[0].sites[0].out_shape
        if end.out_shape != expected:
            raise ShapeError(
                f"net.feedback.{number}: expected a path that ends in {expected}, the shape of "
                f"block {spec.target}'s first current, got {end.out_shape}; change its layers."
            )
        return Edge(spec, number, (*sites, end))
