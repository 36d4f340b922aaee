MODEL (
  name shop.spending,
  kind INCREMENTAL_BY_TIME_RANGE (
    time_column day,
    lookback 30
  )
);

SELECT
  days.day,
  tx.customer_id,
  SUM(tx.amount_cents)::BIGINT AS cents_30d,
  COUNT(*) AS n_30d,
  CURRENT_TIMESTAMP AS built_at
FROM (
  SELECT DISTINCT
    day
  FROM shop.transactions
  WHERE
    day BETWEEN @start_date AND @end_date
) AS days
INNER JOIN shop.transactions AS tx
  ON tx.day BETWEEN days.day - 29 AND days.day
WHERE
  days.day BETWEEN @start_date AND @end_date
GROUP BY
  days.day,
  tx.customer_id
