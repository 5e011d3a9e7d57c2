"""What mkdocs does beside its own: what lies outside docs/ is in the site, too; docstrings link.

On GitHub the pages link to files of the repository, ``../examples/NAME.py`` for instance. Here
these are pages as well, so that the site is whole without GitHub.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent.parent
WIDE = {"findings.md", "promises.md"}  # their tables need the room of the table of contents
LINK = re.compile(r"(\]\()((?:\.\./)+[^)#\s]+)")
ROLE = re.compile(r":\w+:`([\w.]+)`")
UNPACKED = re.compile(r"Unpack\[(\w+)\]")
LITERAL = re.compile(r"(?m)^(.*?)::\n(?=\n +\S)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the changelog, the license, and the examples with their source."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    files.append(File.generated(config, "changelog.md", content=changelog))
    license_text = f"# License\n\n```text\n{(ROOT / 'LICENSE').read_text()}```\n"
    files.append(File.generated(config, "license.md", content=license_text))
    for path in sorted((ROOT / "examples").rglob("*")):
        name = path.relative_to(ROOT).as_posix()
        if path.is_dir() or "__pycache__" in name:
            continue
        if path.suffix == ".py":
            page = f"# {path.name}\n\n```python\n{path.read_text()}```\n"
            files.append(File.generated(config, f"{name}.md", content=page))
        else:
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to files of the repository lead to what these are in the site."""
    if page.file.src_uri in WIDE:
        page.meta["hide"] = ["toc"]
    folder = posixpath.dirname(posixpath.join("docs", page.file.src_uri))

    def inside(match: re.Match[str]) -> str:
        name = posixpath.normpath(posixpath.join(folder, match[2]))
        outside = {"CHANGELOG.md": "changelog.md", "LICENSE": "license.md", "README.md": "index.md"}
        target = outside.get(name, f"{name}.md" if name.endswith(".py") else name)
        if target.startswith("docs/"):
            return match[0]
        here = posixpath.dirname(page.file.src_uri)
        return match[1] + posixpath.relpath(target, here or ".")

    return LINK.sub(inside, markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Let a page in another language than the site's say so: its name has the language."""
    language = re.fullmatch(r".*\.([a-z]{2}-[A-Z]{2})\.md", page.file.src_uri)
    return (
        output.replace('<html lang="en"', f'<html lang="{language[1]}"', 1) if language else output
    )


class Docstrings(griffe.Extension):
    """Sphinx's roles and literal blocks as Markdown; keywords of a TypedDict as arguments."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Rewrite the docstring of what was read."""
        if obj.docstring is None:
            return
        public = obj.package.exports or ()

        def link(match: re.Match[str]) -> str:
            name = match[1].removeprefix("moderngl_colab.")
            return f"[`{name}`][moderngl_colab.{name}]" if name in public else f"`{name}`"

        text = ROLE.sub(link, obj.docstring.value)
        obj.docstring.value = LITERAL.sub(lambda m: f"{m[1]}:\n" if m[1] else "\n", text)

    def on_function(
        self, *, func: griffe.Function, loader: griffe.GriffeLoader, **_: object
    ) -> None:
        """Put what ``**settings: Unpack[Settings]`` takes into the signature."""
        for parameter in list(func.parameters):
            unpacked = UNPACKED.fullmatch(str(parameter.annotation))
            if unpacked is None:
                continue
            del func.parameters[parameter.name]
            settings = loader.modules_collection[func.resolve(unpacked[1])]
            for name, setting in settings.attributes.items():
                kind = griffe.ParameterKind.keyword_only
                added = griffe.Parameter(
                    name, annotation=setting.annotation, kind=kind, default="..."
                )
                func.parameters.add(added)
