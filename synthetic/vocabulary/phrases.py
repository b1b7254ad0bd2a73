"""Words that Faker does not have: colours, rivals, what customers write, names of dealerships."""

from __future__ import annotations

from typing import Any

ENGLISH: dict[str, Any] = {
    "dealerships": [
        "Riverside Motors", "Northgate Auto", "Hillcrest Cars", "Lakeview Motors", "Summit Auto",
        "Westfield Cars", "Harbor Motors", "Oak Park Auto", "Stonebridge Cars", "Prairie Motors",
        "Cedar Point Auto", "Granite Motors", "Bayside Cars", "Eastgate Motors", "Maple Grove Auto",
        "Crossroads Cars", "Pinewood Motors", "Union Square Auto", "Silver Creek Cars", "Ridgeway Motors",
    ],
    "colours": [
        ["white", 0.27], ["black", 0.22], ["gray", 0.2], ["silver", 0.11], ["blue", 0.1],
        ["red", 0.07], ["green", 0.02], ["beige", 0.01],
    ],
    "competitors": ["dealer of the same brand", "dealer of another brand", "used-car market", "private seller"],
    "comments": {
        "good": [
            "Everything was clear, thank you.", "The manager answered every question.",
            "Quick and polite.", "I will come again.", "The car was ready on time.",
            "Good coffee and an honest price.", "They explained what was done and why.",
        ],
        "fair": [
            "Fine, but it took a while.", "As expected.", "Acceptable, could be cheaper.",
            "The work is good, the waiting is long.", "Nothing special.",
        ],
        "bad": [
            "I had to come back with the same fault.", "Nobody called me back.",
            "The price was not the one we agreed on.", "Waited an hour past my appointment.",
            "The manager was not interested.", "Too expensive for what was done.",
        ],
    },
    "texts": {"network": "Meridian Auto Group"},
}
"""Pools of the en_US locale that are written by hand."""

RUSSIAN: dict[str, Any] = {
    "dealerships": [
        "Автоцентр Северный", "Автодом на Набережной", "Автоцентр Южный", "Авто на Садовой",
        "Автоцентр Вокзальный", "Автодом Озёрный", "Автоцентр Лесной", "Авто на Московской",
        "Автоцентр Заречный", "Автодом Центральный", "Автоцентр Восточный", "Авто на Полевой",
        "Автоцентр Западный", "Автодом Сосновый", "Автоцентр Горный", "Авто на Заводской",
        "Автоцентр Университетский", "Автодом Береговой", "Автоцентр Кольцевой", "Авто на Мира",
    ],
    "cities": [
        ["Воронеж", "Воронежская область"], ["Краснодар", "Краснодарский край"],
        ["Самара", "Самарская область"], ["Казань", "Республика Татарстан"],
        ["Пермь", "Пермский край"], ["Екатеринбург", "Свердловская область"],
        ["Новосибирск", "Новосибирская область"], ["Омск", "Омская область"],
        ["Челябинск", "Челябинская область"], ["Саратов", "Саратовская область"],
        ["Тюмень", "Тюменская область"], ["Ярославль", "Ярославская область"],
        ["Тула", "Тульская область"], ["Рязань", "Рязанская область"],
        ["Липецк", "Липецкая область"], ["Пенза", "Пензенская область"],
        ["Тверь", "Тверская область"], ["Калуга", "Калужская область"],
        ["Ижевск", "Удмуртская Республика"], ["Уфа", "Республика Башкортостан"],
        ["Томск", "Томская область"], ["Барнаул", "Алтайский край"],
        ["Оренбург", "Оренбургская область"], ["Белгород", "Белгородская область"],
    ],
    "colours": [
        ["белый", 0.27], ["чёрный", 0.22], ["серый", 0.2], ["серебристый", 0.11], ["синий", 0.1],
        ["красный", 0.07], ["зелёный", 0.02], ["бежевый", 0.01],
    ],
    "competitors": ["дилер той же марки", "дилер другой марки", "рынок подержанных", "частный продавец"],
    "comments": {
        "good": [
            "Всё понятно, спасибо.", "Менеджер ответил на все вопросы.", "Быстро и вежливо.",
            "Приеду ещё.", "Машина была готова вовремя.", "Объяснили, что сделали и почему.",
        ],
        "fair": [
            "Нормально, но долго.", "Как и ожидал.", "Приемлемо, могло быть дешевле.",
            "Работа хорошая, ждать долго.", "Ничего особенного.",
        ],
        "bad": [
            "Пришлось вернуться с той же поломкой.", "Никто не перезвонил.",
            "Цена не та, о которой договорились.", "Ждал час после назначенного времени.",
            "Менеджеру было неинтересно.", "Слишком дорого за такую работу.",
        ],
    },
    "texts": {"network": "Группа «Меридиан Авто»"},
}
"""Pools of the ru_RU locale that are written by hand."""
