"""Invented candidates that look like real ones, each a pure function of a seed and a number.

Nobody's data: every e-mail is at example.com, every phone number is of a range that its country
reserves for fiction.
"""

from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID, uuid5

from domain.candidate import NewCandidate

ORGANIZATIONS_TOTAL = 5
_NAMESPACE = UUID("6f9c2b1e-54a7-5d0c-9b7e-2f3a8d1c4e60")
# One organization is much larger than the smallest, as with real tenants.
_ORGANIZATION_WEIGHTS = (40, 25, 16, 12, 7)


@dataclass(frozen=True, slots=True)
class Region:
    """Names and cities that go together, and `phone` with room for three digits."""

    first_names: tuple[str, ...]
    last_names: tuple[str, ...]
    cities: tuple[str, ...]
    phone: str
    phone_digits: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Department:
    """Teams to be hired for, and what their candidates know."""

    name: str
    teams: tuple[str, ...]
    skills: tuple[str, ...]


REGIONS = (
    Region(
        ("Olivia", "James", "Emma", "Noah", "Ava", "Liam", "Grace", "Ethan", "Maya", "Jacob"),
        ("Smith", "Johnson", "Brown", "Miller", "O'Brien", "Davis", "Walker", "Bennett"),
        ("Washington", "Baltimore", "Richmond"),
        "+12025550{:03d}",
        (100, 199),
    ),
    Region(
        ("Lena", "Jonas", "Jürgen", "Mia", "Felix", "Katharina", "Björn", "Sophie", "Paul"),
        ("Müller", "Schmidt", "Weiß", "Fischer", "Schäfer", "Koch", "von Berg", "Krüger"),
        ("Berlin", "Potsdam", "Leipzig"),
        "+493023125{:03d}",
        (0, 999),
    ),
    Region(
        ("Amelia", "Harry", "Siân", "Oliver", "Niamh", "George", "Priya", "Callum", "Zainab"),
        ("Jones", "Taylor", "MacDonald", "Evans", "Patel", "Hughes", "Khan", "Ó Súilleabháin"),
        ("London", "Manchester", "Edinburgh"),
        "+442079460{:03d}",
        (0, 999),
    ),
    Region(
        ("Yuki", "Haruto", "Mei", "Wei", "Xiuying", "Min-jun", "Seo-yeon", "Linh", "Anh"),
        ("Tanaka", "Sato", "Chen", "Wang", "Kim", "Park", "Nguyễn", "Trần"),
        ("Sydney", "Melbourne", "Brisbane"),
        "+61491570{:03d}",
        (156, 159),
    ),
    Region(
        ("Astrid", "Erik", "Åsa", "Lars", "Ingrid", "Søren", "Freja", "Mikko", "Aino"),
        ("Lindström", "Johansson", "Bergström", "Nielsen", "Hansen", "Virtanen", "Ek"),
        ("Stockholm", "Uppsala", "Göteborg"),
        "+46701740{:03d}",
        (605, 699),
    ),
)
DEPARTMENTS = (
    Department(
        "engineering",
        ("backend", "frontend", "platform", "data"),
        ("python", "postgresql", "kafka", "typescript", "kubernetes", "rust", "go", "react"),
    ),
    Department(
        "sales",
        ("enterprise", "inside", "partners"),
        ("negotiation", "crm", "saas", "forecasting", "german", "spanish"),
    ),
    Department(
        "design", ("product", "brand"), ("figma", "research", "prototyping", "accessibility")
    ),
    Department(
        "operations", ("people", "finance", "legal"), ("payroll", "audit", "contracts", "hiring")
    ),
)
# Status -> the last label of the pipeline stage, and how common it is.
STEPS = {
    "new": ("applied", 30),
    "contacted": ("outreach", 15),
    "screening": ("phone_screen", 15),
    "interview": ("onsite", 15),
    "offer": ("offer", 5),
    "hired": ("signed", 5),
    "rejected": ("closed", 10),
    "withdrawn": ("closed", 5),
}
SOURCES = ("referral", "careers_page", "linkedin", "agency", "university_fair", "sourced")


def organization_id(number: int) -> str:
    """The organizations are the same whatever the seed."""
    return str(uuid5(_NAMESPACE, f"organization/{number}"))


class People:
    """The candidates of one seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def key(self, number: int) -> tuple[str, str]:
        """`(organization_id, candidate_id)`; number 0 is in the first organization."""
        choice = self._random("organization", number)
        organization = choice.choices(range(ORGANIZATIONS_TOTAL), _ORGANIZATION_WEIGHTS)[0]
        candidate_id = uuid5(_NAMESPACE, f"{self._seed}/candidate/{number}")
        return organization_id(organization if number else 0), str(candidate_id)

    def candidate(self, number: int) -> NewCandidate:
        """Everything a recruiter would have entered."""
        choice = self._random("candidate", number)
        region, department = choice.choice(REGIONS), choice.choice(DEPARTMENTS)
        first_name, last_name = choice.choice(region.first_names), choice.choice(region.last_names)
        status = choice.choices(list(STEPS), [weight for _, weight in STEPS.values()])[0]
        candidate: dict[str, Any] = {
            "first_name": first_name,
            "last_name": last_name,
            "email": f"{_ascii(first_name)}.{_ascii(last_name)}.{number}@example.com",
            "phone": phone(choice, region) if choice.random() < 0.8 else None,
            "status": status,
            "pipeline_stage": stage(choice, department, status),
            "rating": choice.choice((None, 2, 3, 3, 4, 4, 5)),
            "source": choice.choice(SOURCES),
            "tags": choice.sample(department.skills, k=choice.randint(0, 4)),
            "attributes": {
                "years_of_experience": choice.randint(0, 25),
                "location": {"city": choice.choice(region.cities), "remote": choice.random() < 0.4},
                "notice_period_days": choice.choice((0, 14, 30, 60, 90)),
            },
        }
        return candidate  # type: ignore[return-value]  # chosen, not written out: checked by test

    def _random(self, what: str, number: int) -> Random:
        return Random(f"{self._seed}/{what}/{number}")


def phone(choice: Random, region: Region) -> str:
    """E.164."""
    return region.phone.format(choice.randint(*region.phone_digits))


def stage(choice: Random, department: Department, status: str) -> str:
    """A path as `engineering.backend.onsite`."""
    return f"{department.name}.{choice.choice(department.teams)}.{STEPS[status][0]}"


def _ascii(name: str) -> str:
    return (
        "".join(letter for letter in name.lower() if letter.isascii() and letter.isalnum()) or "x"
    )
