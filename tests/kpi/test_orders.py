"""The demo's KPIs of orders, tried out as docs/testing.md says: once with files, once with the fixture `kpi`."""

from pathlib import Path

from kpitest import Driver
from kpitest.__main__ import main

HERE = Path(__file__).parent
ORDER = {
    "order_id": "o-1",
    "customer_id": "c-1",
    "channel": "WEB",
    "quantity": 1,
    "total": "10.00",
    "address": {"country": "DE", "city": "Berlin"},
}


def test_the_orders_of_the_file_give_the_rows_of_the_file() -> None:
    config = {"KPI_CONFIG": str(HERE.parents[1] / "kpi.toml")}
    events, rows, schemas = HERE / "orders.jsonl", HERE / "orders.expected.jsonl", HERE.parents[1] / "schemas"
    assert main([str(events), "--expect", str(rows), "--schema", str(schemas)], config) == 0


def test_revenue_is_the_sum_of_totals(kpi: Driver) -> None:
    kpi.send("shop.orders", ORDER, at="2026-11-26T10:00:00Z")
    kpi.send("shop.orders", ORDER | {"total": "2.50"}, at="2026-11-26T10:00:09Z")
    kpi.advance("1m")
    (row,) = [row for row in kpi.rows("kpi.shop.orders.10s") if not row["group_by"]]
    assert (row["orders"], row["revenue"], row["final"]) == (2, "12.50", True)


def test_a_country_has_rows_of_its_own(kpi: Driver) -> None:
    kpi.send("shop.orders", ORDER, at="2026-11-26T10:00:00Z")
    kpi.send("shop.orders", ORDER | {"address": {"country": "FR", "city": "Lyon"}}, at="2026-11-26T10:00:00Z")
    kpi.close()
    kpi.expect(
        {"topic": "kpi.shop.orders.1m", "group_by": ["address.country"], "address_country": "DE", "orders": 1},
        {"topic": "kpi.shop.orders.1m", "group_by": ["address.country"], "address_country": "FR", "orders": 1},
    )
