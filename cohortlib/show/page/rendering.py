"""From values to a page of HTML: everything that comes from data is escaped, and what nobody named is an error."""

from cohortlib.errors import CohortlibError


def render(package: str, template: str, **values: object) -> str:
    """Fill a template of a package, which may build on ``frame.html.j2`` and ``tables.html.j2`` of this one."""
    try:
        from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise CohortlibError("a page needs Jinja2. Hint: pip install 'cohortlib[html]'") from error
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("cohortlib.show.page", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page: str = environment.get_template(template).render(values)
    return page
