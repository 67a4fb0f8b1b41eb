/** Where the graph's nodes are drawn: at the file's positions, scaled; where a node has none, in layers. */

import type { Graph, GraphEdge, GraphNode } from '../../model';
import { CONTAINERS, MARKS } from './steps';

export interface Box {
  node: GraphNode;
  x: number; // of the left side
  y: number; // of the upper side
  width: number;
  height: number;
}

const WIDTH = 244; // of Dify's nodes
const HEIGHT = 54;
const MARK = 44;
const COLUMN = 300;
const ROW = 140;

/** All nodes with places, in the file's units. */
export function placed(graph: Graph): Box[] {
  const layered = graph.nodes.some((node) => node.x === null || node.y === null) ? layers(graph) : null;
  return graph.nodes.map((node) => {
    const size = MARKS.has(node.type) ? MARK : null;
    return {
      node,
      x: node.x ?? layered?.get(node.id)?.x ?? 0,
      y: node.y ?? layered?.get(node.id)?.y ?? 0,
      width: node.width ?? size ?? WIDTH,
      height: node.height ?? size ?? HEIGHT,
    };
  });
}

/** A column for each length of the longest way to a node, and in it a row for each node. */
function layers(graph: Graph): Map<string, { x: number; y: number }> {
  const incoming = new Map<string, string[]>();
  for (const { source, target } of graph.edges) incoming.set(target, [...(incoming.get(target) ?? []), source]);
  const depths = new Map<string, number>();
  function depth(id: string): number {
    const known = depths.get(id);
    if (known !== undefined) return known;
    depths.set(id, 0); // where edges form a circle, it is cut here
    const value = Math.max(-1, ...(incoming.get(id) ?? []).map(depth)) + 1;
    depths.set(id, value);
    return value;
  }
  const used = new Map<number, number>();
  const places = new Map<string, { x: number; y: number }>();
  for (const node of graph.nodes) {
    const column = depth(node.id);
    const row = used.get(column) ?? 0;
    used.set(column, row + 1);
    places.set(node.id, { x: column * COLUMN, y: row * ROW });
  }
  return places;
}

export interface Drawing {
  boxes: Map<string, Box>; // in px of the canvas
  width: number;
  height: number;
  far: boolean;
}

const SMALLEST_FIT = 0.36; // names of neighbours still fit beside each other; a wider graph scrolls
export const TINY = 0.3; // below it there is no room for names
export const FAR = 0.6; // below it nodes are shapes with their names under them
const FAR_SIZE = 40;
const NEAR_HEIGHT = 58;
const MARGIN_X = 30;
const MARGIN_Y = 34;
const HANDLE = 27; // Dify's edges meet a node this far below its upper side, however tall it is
const FAR_GAP = 92; // px from row to row, with room for the name
const NEAR_GAP = 74;
const NAME_ROOM = 36; // px under a shape of the far view
const HEADER = 36; // of a container's box

/** Rows may be drawn further apart than columns, up to twice, so that names do not touch. */
function verticalScale(boxes: Box[], scale: number): number {
  const gap = scale < FAR ? FAR_GAP : NEAR_GAP;
  let needed = scale;
  const nodes = boxes.filter((box) => !CONTAINERS.has(box.node.type));
  for (const [index, a] of nodes.entries()) {
    for (const b of nodes.slice(index + 1)) {
      const dy = Math.abs(a.y - b.y);
      const apart = Math.abs(a.x - b.x) * scale > (scale < FAR ? 104 : WIDTH * scale);
      if (!apart && dy > 20) needed = Math.max(needed, gap / dy);
    }
  }
  return Math.min(needed, scale * 2);
}

export function draw(all: Box[], scale: number): Drawing {
  const far = scale < FAR;
  const vertical = verticalScale(all, scale);
  const left = Math.min(...all.map((box) => box.x));
  const top = Math.min(...all.map((box) => box.y));
  const boxes = new Map<string, Box>();
  let width = 0;
  let height = 0;
  for (const box of all) {
    const x = (box.x - left) * scale + MARGIN_X;
    const y = (box.y - top) * vertical + MARGIN_Y;
    let drawn: Box;
    if (CONTAINERS.has(box.node.type)) {
      drawn = { ...box, x, y: y - HEADER / 2, width: box.width * scale, height: box.height * vertical + HEADER / 2 };
    } else {
      const size = MARKS.has(box.node.type) ? 28 : far ? FAR_SIZE : null;
      const own = size ? { width: size, height: size } : { width: box.width * scale, height: NEAR_HEIGHT };
      const middle = y + (MARKS.has(box.node.type) ? box.height / 2 : HANDLE) * vertical;
      const centre = x + (box.width * scale) / 2;
      drawn = { node: box.node, x: centre - own.width / 2, y: middle - own.height / 2, ...own };
    }
    boxes.set(box.node.id, drawn);
    width = Math.max(width, drawn.x + drawn.width);
    height = Math.max(height, drawn.y + drawn.height);
  }
  return { boxes, width: width + MARGIN_X, height: height + MARGIN_Y + (far ? NAME_ROOM : 0), far };
}

/** The scale at which the whole graph is as wide as the canvas, within what can be read. */
export function fit(all: Box[], canvasWidth: number): number {
  const left = Math.min(...all.map((box) => box.x));
  const right = Math.max(...all.map((box) => box.x + box.width));
  const scale = (canvasWidth - 2 * MARGIN_X) / Math.max(right - left, 1);
  return Math.min(1, Math.max(SMALLEST_FIT, scale));
}

/** Where edges meet a node: its middle, or the head of a container's box. */
const entryOf = (box: Box): number => box.y + (CONTAINERS.has(box.node.type) ? HEADER : box.height) / 2;

export interface Curve {
  path: string;
  middle: { x: number; y: number };
}

/** From the right side of one node to the left side of another; above the row where others stand between them. */
export function curve(edge: GraphEdge, drawing: Drawing): Curve | null {
  const source = drawing.boxes.get(edge.source);
  const target = drawing.boxes.get(edge.target);
  if (!source || !target) return null;
  const from = { x: source.x + source.width, y: entryOf(source) };
  const to = { x: target.x, y: entryOf(target) };
  const between = [...drawing.boxes.values()].filter((box) => {
    if (box === source || box === target || box.node.parent_id !== source.node.parent_id) return false;
    if (box.x <= from.x || box.x + box.width >= to.x) return false;
    const share = (box.x + box.width / 2 - from.x) / (to.x - from.x);
    const y = from.y + (to.y - from.y) * share;
    return y > box.y - 4 && y < box.y + box.height + 4;
  });
  if (between.length) {
    const above = Math.max(8, Math.min(...between.map((box) => box.y)) - 24);
    const path =
      `M${from.x} ${from.y}C${from.x + 30} ${from.y} ${from.x + 20} ${above} ${from.x + 60} ${above}` +
      `H${to.x - 60}C${to.x - 20} ${above} ${to.x - 30} ${to.y} ${to.x} ${to.y}`;
    return { path, middle: { x: (from.x + to.x) / 2, y: above } };
  }
  const bend = Math.max(20, Math.abs(to.x - from.x) / 2);
  const path = `M${from.x} ${from.y}C${from.x + bend} ${from.y} ${to.x - bend} ${to.y} ${to.x} ${to.y}`;
  return { path, middle: { x: (from.x + to.x) / 2, y: (from.y + to.y) / 2 } };
}
