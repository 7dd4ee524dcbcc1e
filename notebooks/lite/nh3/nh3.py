"""nh3's `Cleaner` for a browser, as far as halo_notebook uses it, on justhtml.

nh3 is compiled, and for WebAssembly there is no wheel of the version that halo_notebook needs (see
CONTRIBUTING, 'In the browser, without a server'). Only the JupyterLite site has this in its place; its
tests are those of render.py, run on this. What it promises: nothing passes that nh3 with the same
settings would not let through. It may let less through: a colour that is a CSS variable, for one.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from justhtml import JustHTML, Regex, SanitizationPolicy, Sanitize, SetAttrs, UrlPolicy, UrlRule

_ANY = [Regex(r"(?s).*")]


class Cleaner:
    """See nh3.Cleaner: the same arguments, all of which must be given."""

    def __init__(
        self,
        *,
        tags: Set[str],
        attributes: Mapping[str, Set[str]],
        allowed_classes: Mapping[str, Set[str]],
        filter_style_properties: Set[str],
        generic_attribute_prefixes: Set[str],
        set_tag_attribute_values: Mapping[str, Mapping[str, str]],
        url_schemes: Set[str],
        url_relative: str,
        link_rel: str,
    ) -> None:
        if url_relative != "deny" or generic_attribute_prefixes:
            raise NotImplementedError("only url_relative='deny' and no generic_attribute_prefixes")
        allowed = {tag: dict.fromkeys(names, _ANY) for tag, names in attributes.items()}
        for tag, classes in allowed_classes.items():
            one = f"(?:{'|'.join(sorted(classes))})"
            allowed.setdefault(tag, {})["class"] = [Regex(f"{one}(?: {one})*")]
        url = UrlRule(
            allowed_schemes=url_schemes,
            allow_relative=False,
            allow_fragment=False,
            resolve_protocol_relative=None,
        )
        policy = SanitizationPolicy(
            allowed_tags=tags,
            allowed_attributes=allowed,
            url_policy=UrlPolicy(
                default_allow_relative=False, allow_rules={("a", "href"): url, ("img", "src"): url}
            ),
            allowed_css_properties=filter_style_properties,
            force_link_rel=link_rel.split(),
            strip_invisible_unicode=False,
        )
        self._transforms: list[Any] = [
            Sanitize(policy),
            *(SetAttrs(tag, attributes={**values}) for tag, values in set_tag_attribute_values.items()),
        ]

    def clean(self, html: str) -> str:
        """The safe part of `html`."""
        return JustHTML(html, fragment=True, sanitize=False, transforms=self._transforms).to_html(
            pretty=False
        )
