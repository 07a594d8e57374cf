"""The occurrences of schedules, independently of fleetform: dateutil's recurrence rules and the standard library's zoneinfo.

In: a line of JSON for each schedule. Out: a line each with [nominal wall clock, instant in seconds] pairs, the first `take` of those whose
instant lies after `after`. Local times that are skipped or that come twice are read with fold=0, which is what RFC 5545, 3.3.5 says.
"""

import json
import sys
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

from dateutil import rrule

WEEKDAYS = {"mon": rrule.MO, "tue": rrule.TU, "wed": rrule.WE, "thu": rrule.TH, "fri": rrule.FR, "sat": rrule.SA, "sun": rrule.SU}
ZONES = {}


def nominal_times(schedule):
    """Yields naive local times."""
    start = datetime.fromisoformat(schedule["start"])
    end = {}
    if schedule["until"]:
        end["until"] = datetime.fromisoformat(schedule["until"] + "T23:59:59")
    if schedule["count"]:
        end["count"] = schedule["count"]
    kind = schedule["recurrence"]
    if kind == "once":
        return rrule.rrule(rrule.DAILY, dtstart=start, count=1)
    if kind == "daily":
        return rrule.rrule(rrule.DAILY, dtstart=start, **end)
    if kind == "weekly":
        days = [WEEKDAYS[day] for day in schedule["weekdays"]]
        return rrule.rrule(rrule.WEEKLY, dtstart=start, byweekday=days, **end)
    # The last of the days up to that of the start: the day itself, or the last day of a shorter month.
    days = list(range(28, start.day + 1)) if start.day > 28 else [start.day]
    return rrule.rrule(rrule.MONTHLY, dtstart=start, bymonthday=days, bysetpos=-1, **end)


def occurrences(schedule):
    zone = ZONES.setdefault(schedule["zone"], ZoneInfo(schedule["zone"]))
    found = []
    for nominal in nominal_times(schedule):
        instant = nominal.replace(tzinfo=zone, fold=0).astimezone(timezone.utc)
        seconds = int((instant - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds())
        if seconds > schedule["after"]:
            found.append([nominal.isoformat(), seconds])
            if len(found) == schedule["take"]:
                break
    return found


for line in sys.stdin:
    print(json.dumps(occurrences(json.loads(line))), flush=False)
