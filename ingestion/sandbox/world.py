"""The world behind the sandbox's APIs: orgs, their people, the apps they may use, and when they use them.

Nothing is stored. Whatever happens is a function of (seed, org, app, person, day), so one day looks the same whatever
"now" is, however many other orgs there are, and in whichever order it is asked for. Instants are milliseconds
since 1970 UTC; days are ordinals (`date.toordinal()`) in the org's own time zone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from hashlib import blake2b
from zoneinfo import ZoneInfo

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_EPOCH = date(2000, 1, 1).toordinal()
# People are drawn this far past the start of the history; a run later than that sees nobody new.
_HORIZON_DAYS = 3650
# Uses that all orgs together keep at once.
_KEPT_USES = 200_000
# The HR system forgets people a year after they left.
_HR_KEEPS_DAYS = 365


def key(*parts: object) -> int:
    """64 bits that depend on every part and on nothing else: the root of all that is drawn for them."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def mix(value: int) -> int:
    """Scatters 64 bits (the finaliser of SplitMix64): a cheap draw where a generator object costs too much."""
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def fraction(value: int) -> float:
    """A number in [0, 1) from 64 scattered bits."""
    return (value >> 11) / (1 << 53)


def millis(moment: datetime) -> int:
    """An aware datetime as milliseconds since 1970 UTC, exactly."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def instant(at: int) -> datetime:
    """Milliseconds since 1970 as an aware UTC datetime, exactly."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)


class OptionsError(Exception):
    """Options name what the world that they describe does not have."""


@dataclass(frozen=True)
class Options:
    """What the sandbox is made of.

    `start`: first day (UTC) of which anything is known; None: `days` before the sandbox's first now. A run that
    is repeated with a later now should name it, or its first days fall off the far end.
    `events`: multiplies what an active person does in a day.
    `faults`: connection id -> `revoked` (credentials refused for ever), `broken` (500 for ever), `malformed` (a
    malformed record on every day of every stream) or `busy` (once wants a pause of ten minutes).
    `calm`: no repeats, empty pages, malformed records, 429s or 5xx; late events stay, for they are the world's.
    `extras`: the product's database has what it may have beside the tables that it must.
    `token_lifetime_s` of access tokens, `page_token_lifetime_s` of Zoom's page tokens: seconds on the real clock.
    """

    seed: int = 1
    orgs: int = 3
    people: int = 40
    days: int = 90
    events: float = 1.0
    start: date | None = None
    faults: Mapping[str, str] = field(default_factory=dict)
    calm: bool = False
    extras: bool = False
    latency_ms: int = 0
    token_lifetime_s: int = 3600
    page_token_lifetime_s: int = 900


@dataclass(frozen=True, slots=True)
class App:
    """An app that may stand behind an identity provider, under the name that each of them shows (None: not there)."""

    app_id: str
    okta_name: str
    saml_name: str | None = None
    token_name: str | None = None


APPS = (
    App("zoom", "Zoom", "Zoom", "Zoom"),
    App("slack", "Slack", "Slack", "Slack"),
    App("salesforce", "Salesforce.com", "Salesforce"),
    App("github", "GitHub Enterprise Cloud - Organization"),
    App("figma", "Figma", None, "Figma"),
    App("miro", "Miro", None, "Miro"),
    App("asana", "Asana", "Asana", "Asana"),
    App("box", "Box", "Box"),
    App("dropbox", "Dropbox Business", "Dropbox", "Dropbox"),
    App("docusign", "DocuSign", None, "DocuSign"),
    App("datadog", "Datadog", "Datadog"),
    App("zendesk", "Zendesk", "Zendesk"),
    App("workday", "Workday", "Workday"),
    App("hubspot", "HubSpot", "HubSpot", "HubSpot"),
    App("notion", "Notion", None, "Notion"),
    App("pagerduty", "PagerDuty"),
)

_ORGS = (
    ("acme", "Acme Robotics", "America/Los_Angeles", ("zoom", "okta", "google_workspace", "slack")),
    ("globex", "Globex GmbH", "Europe/Berlin", ("zoom", "okta", "slack")),
    ("initech", "Initech K.K.", "Asia/Tokyo", ("zoom", "google_workspace")),
)
_ZONES = (
    ("America/New_York", "USD"),
    ("Europe/London", "GBP"),
    ("Asia/Kolkata", "INR"),
    ("Pacific/Auckland", "NZD"),
    ("America/Santiago", "CLP"),
    ("Pacific/Kiritimati", "AUD"),
    ("Australia/Lord_Howe", "AUD"),
    ("UTC", "USD"),
)
_CURRENCIES = {"America/Los_Angeles": "USD", "Europe/Berlin": "EUR", "Asia/Tokyo": "JPY"} | dict(_ZONES)
_CONNECTORS = ("zoom", "okta", "google_workspace", "slack")
_DEPARTMENTS = ("Engineering", "Sales", "Support", "Finance", "Marketing", "People", "Design", "Legal")
# fmt: off
_FIRST = (
    "Ada", "Alan", "Amira", "Ana", "Ben", "Björn", "Chen", "Chloé", "Dana", "Diego", "Elif", "Emma", "Femi", "Fatima",
    "Grace", "Hiro", "Ines", "Ivan", "Jana", "José", "Kai", "Lena", "Liam", "Łukasz", "Mai", "Marco", "Mia", "Nadia",
    "Noah", "Olga", "Omar", "Pia", "Priya", "Quinn", "Rosa", "Sam", "Sofia", "Tariq", "Uma", "Yuki", "Zoë",
)
_LAST = (
    "Abe", "Adler", "Bauer", "Brown", "Chan", "Costa", "Diaz", "Dubois", "Eriksen", "Fischer", "García", "Gupta",
    "Haddad", "Ito", "Jansen", "Kaya", "Kim", "Kovač", "Lopez", "Meyer", "Moreau", "Müller", "Nakamura", "Novak",
    "Okafor", "Olsen", "Park", "Patel", "Rossi", "Sato", "Schmidt", "Silva", "Singh", "Smith", "Tanaka", "Torres",
    "Weber", "Wilson", "Wu", "Yılmaz",
)
# fmt: on
_ASCII = str.maketrans("öéáíłüčıëŁ", "oeailuciel")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody, or something, that has accounts. Only `employee` is known to HR; the rest is what accounts show."""

    org: Org
    person_id: str
    kind: str  # employee, service, shared, external; lent: whoever needs it uses it, wherever they are
    name: str
    email: str
    aliases: tuple[str, ...]
    department: str
    first_day: int
    left_day: int | None
    is_night_owl: bool
    key: int

    @property
    def given_name(self) -> str:
        return self.name.split(" ")[0]

    @property
    def family_name(self) -> str:
        return self.name.split(" ")[-1]

    def leave(self, year: int) -> tuple[int, int] | None:
        """First and last day of the leave that began in a year, if there was one."""
        draw = mix(self.key ^ year)
        if self.kind != "employee" or fraction(draw) >= 0.08:
            return None
        # At most 359 days into its year, so that no leave is seen from two years.
        first = date(year, 1, 1).toordinal() + draw % 270
        return first, first + 30 + draw % 60

    def is_on_leave(self, day: int) -> bool:
        leave = self.leave(date.fromordinal(day).year)
        return leave is not None and leave[0] <= day <= leave[1]


@dataclass(frozen=True, slots=True)
class Membership:
    """A person's place in an app: since when, how eagerly it is used, and when it was taken away (None: it stays)."""

    person: Person
    app_id: str
    first_day: int
    last_use_day: int | None
    closed_day: int | None
    rate: float
    key: int

    def is_open(self, day: int) -> bool:
        return self.first_day <= day and (self.closed_day is None or day < self.closed_day)


@dataclass(frozen=True, slots=True)
class Use:
    """A person turned to an app: when, through which identity provider (None: directly), and 63 random bits."""

    at: int
    through: str | None
    salt: int


class Org:
    """One customer: its zone, its people, its connections, and the apps behind its identity providers."""

    def __init__(self, options: Options, start: date, index: int) -> None:
        self.index = index
        self.connectors: tuple[str, ...]
        self._options = options
        self._start_day = start.toordinal()
        if index < len(_ORGS):
            self.org_id, self.name, self.timezone, self.connectors = _ORGS[index]
            self.key = key(options.seed, self.org_id)
        else:
            self.org_id = f"org-{index + 1:04d}"
            self.key = key(options.seed, self.org_id)
            self.name = f"Company {index + 1}"
            self.timezone = _ZONES[self.key % len(_ZONES)][0]
            drawn = tuple(c for c in _CONNECTORS if fraction(mix(key(self.key, c))) < 0.7)
            self.connectors = drawn or ("zoom",)
        self.zone = ZoneInfo(self.timezone)
        self.currency = _CURRENCIES[self.timezone]
        self.domain = f"{self.org_id}.example"
        self.email_domains = (self.domain, f"mail.{self.domain}")
        self.created_at = datetime(2021, 1 + self.key % 12, 1 + self.key % 28, 9, tzinfo=UTC)
        self._day_starts: dict[int, int] = {}
        self._routes: dict[str, tuple[str, ...]] = {}
        self._memberships: dict[str, list[Membership]] = {}
        self._uses: dict[tuple[str, int], list[tuple[Membership, list[Use]]]] = {}
        self._kept_uses = 0
        self._places: dict[str, list[Membership]] = {}

    def day_start(self, day: int) -> int:
        """The first instant of a local day; a day is as long as its zone makes it (23 to 25 hours)."""
        if (start := self._day_starts.get(day)) is None:
            midnight = datetime.combine(date.fromordinal(day), time(), self.zone)
            start = self._day_starts[day] = millis(midnight)
        return start

    def day_of(self, at: int) -> int:
        return instant(at).astimezone(self.zone).toordinal()

    @cached_property
    def apps(self) -> dict[str, App]:
        """The apps that this org has bought: Zoom always, the others as it happens."""
        has = (app.app_id == "zoom" or fraction(mix(key(self.key, "app", app.app_id))) < 0.8 for app in APPS)
        return {app.app_id: app for app, is_there in zip(APPS, has, strict=True) if is_there}

    def routes(self, app_id: str) -> tuple[str, ...]:
        """The identity providers that lead to an app."""
        if app_id not in self._routes:
            self._routes[app_id] = tuple(self._draw_routes(self.apps.get(app_id)))
        return self._routes[app_id]

    def _draw_routes(self, app: App | None) -> Iterator[str]:
        if app is None:
            return
        has_okta = "okta" in self.connectors
        if has_okta:
            yield "okta"
        # Beside Okta, Google is left in front of a third of the apps; alone it is in front of all.
        is_kept = not has_okta or fraction(mix(key(self.key, "saml", app.app_id))) < 0.34
        if app.saml_name and is_kept and "google_workspace" in self.connectors:
            yield "google_workspace"

    @cached_property
    def people(self) -> list[Person]:
        """Everybody who has accounts at some time from a year before the start on, to ten years after it."""
        everybody = [p for slot in range(self._options.people) for p in self._incumbents(slot)]
        since = _EPOCH + self.key % 300
        for n in range(1 + self._options.people // 50):
            everybody.append(self._outsider("service", f"svc-backup-{n + 1}", "Backup Bot", self.domain, since))
        for name in ("support", "billing"):
            everybody.append(self._outsider("shared", name, f"{name.title()} Team", self.domain, since))
        everybody.append(self._outsider("lent", "workshop", "Workshop Screen", self.domain, since))
        for n in range(2 + self._options.people // 20):
            first, last = self._name(f"external/{n}")
            local = f"{first}.{last}{n}".translate(_ASCII).lower()
            everybody.append(
                self._outsider("external", local, f"{first} {last}", "partner-studio.example", since + 90 * n)
            )
        return everybody

    @cached_property
    def admin(self) -> Person:
        """Who administers the apps: the first employee, who never leaves."""
        return self.people[0]

    @cached_property
    def employees_by_email(self) -> dict[str, Person]:
        """HR's e-mails and aliases, lower case: all by which an account can be known for a person's."""
        employees = [person for person in self.people if person.kind == "employee"]
        return {email.lower(): person for person in employees for email in (person.email, *person.aliases)}

    def vendor_email(self, person: Person, connector: str) -> str:
        """The address of a person's account: mostly HR's; else an alias, in other letters, or with a plus."""
        draw = fraction(mix(key(person.key, connector, "email")))
        if person.kind != "employee" or draw >= 0.2:
            return person.email.lower()
        local, domain = person.email.lower().split("@")
        if draw < 0.08:
            return person.aliases[0]
        if draw < 0.14:
            return f"{local.title()}@{domain.upper()}"
        return f"{local}+{connector}@{domain}"

    def memberships(self, app_id: str) -> list[Membership]:
        """Everybody's place in an app, in a fixed order."""
        if app_id not in self._memberships:
            drawn = (self._membership(person, app_id) for person in self.people)
            self._memberships[app_id] = [membership for membership in drawn if membership]
        return self._memberships[app_id]

    def places(self, person: Person) -> list[Membership]:
        """A person's memberships of the apps that the org has bought."""
        if not self._places:
            for app_id in self.apps:
                for membership in self.memberships(app_id):
                    self._places.setdefault(membership.person.person_id, []).append(membership)
        return self._places.get(person.person_id, [])

    @cached_property
    def joiners(self) -> dict[int, list[tuple[App, Membership]]]:
        """Who is given which app on which day."""
        found: dict[int, list[tuple[App, Membership]]] = {}
        for app in self.apps.values():
            for membership in self.memberships(app.app_id):
                found.setdefault(membership.first_day, []).append((app, membership))
        return found

    def uses_on(self, app_id: str, day: int) -> list[tuple[Membership, list[Use]]]:
        """Who used an app on a local day, and when. Kept, because an app and its identity providers all ask."""
        found = self._uses.get((app_id, day))
        if found is None:
            drawn = ((member, self.uses(member, day)) for member in self.memberships(app_id) if member.rate)
            found = [(member, uses) for member, uses in drawn if uses]
            if self._kept_uses > _KEPT_USES // self._options.orgs:
                self._uses, self._kept_uses = {}, 0
            self._uses[app_id, day] = found
            self._kept_uses += 20 + sum(len(uses) for _, uses in found)
        return found

    def uses(self, membership: Membership, day: int) -> list[Use]:
        """When a person turned to an app on a local day, in order."""
        if day < membership.first_day or (membership.last_use_day is not None and day > membership.last_use_day):
            return []
        person = membership.person
        draw = mix((membership.key + day * _GOLDEN) & _MASK)
        rate = membership.rate
        if fraction(draw) >= rate:
            return []
        if person.kind != "service":
            if day % 7 in (6, 0):  # ordinal 1 was a Monday
                rate *= 0.12
            if fraction(mix(membership.key ^ (day // 91))) < 0.12:
                rate *= 0.1  # a quarter in which the app is all but forgotten
        if fraction(draw) >= rate or person.is_on_leave(day):
            return []
        rng = random.Random(draw)  # noqa: S311 - a world, not a secret
        wanted = 22 if person.kind == "service" else 1 + min(int(rng.expovariate(1.1)), 6)
        routes = self.routes(membership.app_id)
        count = int(wanted * self._options.events + rng.random() * 0.999)
        return sorted((self._use(person, day, routes, rng) for _ in range(count)), key=lambda use: (use.at, use.salt))

    def _use(self, person: Person, day: int, routes: tuple[str, ...], rng: random.Random) -> Use:
        start = self.day_start(day)
        length = self.day_start(day + 1) - start
        habit = rng.random()
        if person.kind == "service":
            elapsed = rng.randrange(length)
        elif length != DAY and habit < 0.3:
            elapsed = rng.randrange(HOUR // 2, 7 * HOUR // 2)  # the clocks change in these hours
        elif person.is_night_owl and habit < 0.5:
            elapsed = rng.randrange(20 * MINUTE)
            elapsed = elapsed if habit < 0.25 else length - 1 - elapsed
        else:
            elapsed = int(rng.triangular(6.5, 21, 10.5) * HOUR)
        snap = rng.random()
        if snap < 0.004:
            elapsed = 0
        elif snap < 0.008:
            elapsed = length - 1
        elif snap < 0.016:
            elapsed = -start % DAY  # midnight in UTC, which falls on every day of 24 hours
        elif snap < 0.04:
            elapsed -= elapsed % HOUR
        choice = rng.random()
        through = routes[int(choice * 7) % len(routes)] if routes and choice < 0.7 else None
        return Use(start + min(elapsed, length - 1), through, rng.getrandbits(63))

    def _membership(self, person: Person, app_id: str) -> Membership | None:
        root = key(person.key, "member", app_id)
        has_it, eager, after, late = (fraction(mix(root ^ n)) for n in range(4))
        wanted = {
            "employee": 0.95 if app_id in _CONNECTORS else 0.55,
            "service": 1.0 if app_id in ("slack", "google_workspace") else 0.0,
            "shared": 1.0 if app_id in ("google_workspace", "zoom") else 0.0,
            "lent": 1.0 if app_id in ("google_workspace", "zoom") else 0.0,
            "external": 0.9 if app_id in ("slack", "zoom") else 0.0,
        }[person.kind]
        if has_it >= wanted and person is not self.admin:
            return None
        if person.kind == "service":
            rate = 1.0 if app_id == "slack" else 0.0
        elif person.kind == "lent":
            rate = 0.92
        else:
            rate = 0.92 if eager < 0.3 else 0.45 if eager < 0.6 else 0.07 if eager < 0.82 else 0.0
        last_use = closed = person.left_day
        if closed is not None:
            # A third of the accounts outlive their owner's job, and half of those go on being used for a while.
            closed = None if after < 0.35 else closed + 1 + int(after * 4)
            if closed is None and last_use is not None and late < 0.5:
                last_use += 5 + int(late * 80)
                rate = max(rate, 0.45)
        return Membership(person, app_id, person.first_day, last_use, closed, rate, root)

    def _incumbents(self, slot: int) -> list[Person]:
        """The people who held a job one after the other; every eighth job is of the kind that nobody keeps."""
        slot_key = key(self.key, "slot", slot)
        if slot == 0:
            return [self._employee(slot, 0, _EPOCH, None)]
        first = _EPOCH + slot_key % 900 - 900
        found = []
        number = 0
        while first < self._start_day + _HORIZON_DAYS:
            draw = mix(slot_key ^ number)
            tenure = 120 + draw % 150 if slot % 8 == 7 else 700 + draw % 2500
            left = first + tenure
            if left >= self._start_day - _HR_KEEPS_DAYS:
                found.append(self._employee(slot, number, first, left))
            first = left + 1 + (draw >> 32) % 30
            number += 1
        return found

    def _employee(self, slot: int, number: int, first_day: int, left_day: int | None) -> Person:
        person_id = f"{self.org_id}-e{slot:04d}-{number}"
        first, last = self._name(person_id)
        # Slot and number make the address unique without a look at anybody else's.
        tail = f"{slot}" if number == 0 else f"{slot}{chr(ord('a') + number % 26)}{number // 26 or ''}"
        local = f"{first}.{last}{tail}".translate(_ASCII).lower()
        root = key(self.key, person_id)
        aliases = [f"{first[0]}{last}{tail}".translate(_ASCII).lower() + f"@{self.email_domains[1]}"]
        if root % 2:
            aliases += [f"{local}+{connector}@{self.domain}" for connector in ("slack", "zoom")]
        return Person(
            org=self,
            person_id=person_id,
            kind="employee",
            name=f"{first} {last}",
            email=f"{local.title() if root % 15 == 3 else local}@{self.domain}",
            aliases=tuple(aliases),
            department=_DEPARTMENTS[mix(root) % len(_DEPARTMENTS)],
            first_day=first_day,
            left_day=left_day,
            is_night_owl=mix(root ^ 1) % 8 == 0,
            key=root,
        )

    def _outsider(self, kind: str, local: str, name: str, domain: str, since: int) -> Person:
        root = key(self.key, kind, local)
        email = f"{local}@{domain}"
        return Person(self, f"{self.org_id}-{kind}-{local}", kind, name, email, (), "", since, None, False, root)

    def _name(self, of: str) -> tuple[str, str]:
        draw = key(self.key, "name", of)
        return _FIRST[draw % len(_FIRST)], _LAST[(draw >> 16) % len(_LAST)]


class World:
    """All orgs of a set of options, from `start` on."""

    def __init__(self, options: Options, now: datetime) -> None:
        self.options = options
        self.start = options.start or now.astimezone(UTC).date() - timedelta(days=options.days)
        self.start_at = millis(datetime.combine(self.start, time(), UTC))
        self.orgs = [Org(options, self.start, index) for index in range(options.orgs)]
