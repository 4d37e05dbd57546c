/* Many ids in one statement: WHERE id IN (ID_LIST) takes the values that id_list_bind filled, the first id_list_max
 * parameters. Places that are not used bind NULL, which no id equals; others come after them, from ID_LIST_NEXT on. */
#pragma once

#include "store/db.h"

#define ID_LIST_TEN(tens)                                                                                              \
    "?" tens "0,?" tens "1,?" tens "2,?" tens "3,?" tens "4,?" tens "5,?" tens "6,?" tens "7,?" tens "8,?" tens "9,"
#define ID_LIST                                                                                                        \
    "?1,?2,?3,?4,?5,?6,?7,?8,?9," ID_LIST_TEN("1") ID_LIST_TEN("2") ID_LIST_TEN("3") ID_LIST_TEN("4") ID_LIST_TEN("5") \
        ID_LIST_TEN("6") ID_LIST_TEN("7") ID_LIST_TEN("8") ID_LIST_TEN("9") ID_LIST_TEN("10") ID_LIST_TEN("11")        \
            ID_LIST_TEN("12") ID_LIST_TEN("13") ID_LIST_TEN("14") ID_LIST_TEN("15") ID_LIST_TEN("16")                  \
                ID_LIST_TEN("17") ID_LIST_TEN("18") ID_LIST_TEN("19") "?200"
#define ID_LIST_NEXT "?201"

enum { id_list_max = 200 };

/* values has room for id_list_max; count is at most that. */
static inline void id_list_bind(struct db_value *values, const char *const *ids, size_t count)
{
    for (size_t i = 0; i < id_list_max; i++)
        values[i] = db_t(i < count ? ids[i] : NULL);
}
