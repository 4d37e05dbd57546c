#include "engine/norm_plan.h"

/* Partial sums [batch, blocks, 2, channels], their totals [batch, 2, channels], and two means [batch, groups, 2]. */
size_t group_norm_workspace(const struct group_norm *norm)
{
    return norm->batch * ((group_norm_blocks(norm) + 1) * 2 * norm->channels + 2 * norm->groups);
}

size_t layer_norm_workspace(size_t rows, size_t channels)
{
    return layer_norm_chunks(rows) * 2 * channels;
}

size_t bias_backward_workspace(size_t rows, size_t channels)
{
    return layer_norm_chunks(rows) * channels;
}

/* <dout, out> of each row and head */
size_t attention_workspace(const struct attention *attention)
{
    return attention->batch * attention->heads * attention->queries;
}
