"""Render HTML pages from templates. All values are escaped, and an undefined name is an error."""

from cohortlib.errors import CohortlibError


def render(package: str, template: str, **values: object) -> str:
    """Render a template of a package, which may use ``frame.html.j2`` and ``tables.html.j2`` of this folder."""
    try:
        from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise CohortlibError("a page needs Jinja2", hint="pip install 'cohortlib[html]'") from error
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("cohortlib.show.page", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page: str = environment.get_template(template).render(values)
    return page
