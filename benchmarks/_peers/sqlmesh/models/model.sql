MODEL (
  name shop.model,
  kind INCREMENTAL_BY_TIME_RANGE (
    time_column day,
    lookback 30
  )
);

SELECT
  days.day,
  past.customer_id,
  SUM(past.cents_30d)::BIGINT AS cents_120d,
  COUNT(*) AS days_120d,
  CURRENT_TIMESTAMP AS built_at
FROM (
  SELECT DISTINCT
    day
  FROM shop.spending
  WHERE
    day BETWEEN @start_date AND @end_date
) AS days
INNER JOIN shop.spending AS past
  ON past.day BETWEEN days.day - 119 AND days.day
WHERE
  days.day BETWEEN @start_date AND @end_date
GROUP BY
  days.day,
  past.customer_id
