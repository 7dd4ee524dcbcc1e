"""How well the text of a page can be read."""

CONTRASTS = """
selector => {
  const context = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  // A colour of any notation as red, green, blue and opacity.
  const parsed = colour => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = context.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  };
  const over = (top, below) => {
    const alpha = top[3] + below[3] * (1 - top[3]);
    const mixed = [0, 1, 2].map(
      i => alpha && (top[i] * top[3] + below[i] * below[3] * (1 - top[3])) / alpha
    );
    return [...mixed, alpha];
  };
  const luminance = colour => {
    const [red, green, blue] = colour.map(value => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const seen = {};
  const trees = [document, ...[...document.querySelectorAll('*')].flatMap(one => one.shadowRoot ?? [])];
  for (const root of trees.flatMap(tree => [...tree.querySelectorAll(selector)])) {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      const element = node.parentElement;
      if (!node.data.trim() || element.closest('mjx-container')) continue;
      const range = document.createRange();
      range.selectNode(node);
      if (!range.getClientRects().length) continue;
      // What a pixel of the text and one beside it show, from the element out to the page.
      let text = parsed(getComputedStyle(element).color);
      let ground = [0, 0, 0, 0];
      for (let at = element; at; at = at.parentElement ?? at.getRootNode().host) {
        const style = getComputedStyle(at);
        const behind = parsed(style.backgroundColor);
        text = over(text, behind);
        ground = over(ground, behind);
        text[3] *= Number(style.opacity);
        ground[3] *= Number(style.opacity);
      }
      const [darker, lighter] = [text, ground]
        .map(colour => luminance(over(colour, [255, 255, 255, 1])))
        .sort((a, b) => a - b);
      const ratio = (lighter + 0.05) / (darker + 0.05);
      const kind = [];
      for (let at = element; at !== root.parentElement; at = at.parentElement) {
        kind.unshift(at.localName + (at.style.color ? `[${at.style.color}]` : ''));
      }
      const name = `${root.classList[0]} ${kind.slice(1).slice(-2).join(' ') || '(itself)'}`;
      if (!(name in seen) || ratio < seen[name]) seen[name] = ratio;
    }
  }
  return seen;
}
"""
"""The lowest contrast of each kind of text, as WCAG 2 reckons it."""
